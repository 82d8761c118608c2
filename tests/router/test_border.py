"""Requests from clients: only complete, valid requests to known paths reach an engine, with allowed headers."""

import json
import resource

import pytest

from tests.support import backends, malformed
from tests.support.routers import CHAT, Reply, Running, routing, service, until

GOOD = b'{"model": "m"}'
KIND = b"Content-Type: application/json\r\n"


def request(*, body: bytes = GOOD, lines: bytes = b"", target: bytes = CHAT.encode()) -> bytes:
    return b"POST %s HTTP/1.1\r\nHost: r\r\n%s%sContent-Length: %d\r\n\r\n%s" % (
        target, KIND, lines, len(body), body,
    )  # fmt: skip


MALFORMED = {
    "truncated": b'{"model": "m"',
    "no object": b'["m"]',
    "NaN": b'{"model": "m", "temperature": NaN}',
    "infinity": b'{"model": "m", "temperature": -Infinity}',
    "deep": b'{"model": "m", "a": ' + b"[" * 65 + b"]" * 65 + b"}",
    "depth 10 000": b'{"model": "m", "a": ' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    "two models": b'{"model": "m", "model": "other"}',
    "two models, one escaped": b'{"model": "m", "mod\\u0065l": "other"}',
    "invalid UTF-8": b'{"model": "m", "user": "\xff"}',
    "half a surrogate pair": b'{"model": "m", "user": "\\ud800"}',
    "byte order mark": b'\xef\xbb\xbf{"model": "m"}',
    "no model": b'{"messages": []}',
    "model no string": b'{"model": ["m"]}',
    "empty model": b'{"model": ""}',
    "empty body": b"",
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED)
async def test_a_malformed_body_is_400_and_reaches_no_engine(body: bytes) -> None:
    async with backends.running() as (engine,), routing(engine) as router:
        reply = await router.ask(raw=body)
        assert reply.status == 400
        assert reply.error["type"] == "BadRequestError"
        assert engine.received == []


async def test_a_model_named_twice_further_down_is_the_clients_own_affair() -> None:
    body = b'{"model": "m", "metadata": {"model": "x", "model": "y"}}'
    async with backends.running() as (engine,), routing(engine) as router:
        assert (await router.ask(raw=body)).status == 200
        assert engine.received[0].body == body


async def test_the_body_reaches_the_engine_byte_for_byte() -> None:
    body = b'{ "unknown":1.10,"model"  : "m","x":"\\u00e9", "n":1e2}\n'
    async with backends.running() as (engine,), routing(engine) as router:
        assert (await router.ask(raw=body)).status == 200
        assert engine.received[0].body == body


async def test_an_unknown_model_is_404() -> None:
    async with backends.running() as (engine,), routing(engine) as router:
        reply = await router.ask(model="other")
        assert reply.status == 404
        assert reply.error["param"] == "model"
        assert engine.received == []


async def test_another_content_type_is_415() -> None:
    async with routing() as router:
        reply = await router.ask(raw=GOOD, headers={"content-type": "text/plain"})
        assert reply.status == 415


SMUGGLED = {
    "two hosts": request(lines=b"Host: chat\r\n"),
    "two lengths": request(lines=b"Content-Length: 0\r\n"),
    "chunked and a length": request(lines=b"Transfer-Encoding: chunked\r\n"),
    "length with sign": request().replace(b"Length: 14", b"Length: +14"),
    "length with space": request().replace(b"Length: 14", b"Length: 1 4"),
    "length in hexadecimal": request().replace(b"Length: 14", b"Length: 0xe"),
    "chunked, identity": request().replace(
        b"Content-Length: 14", b"Transfer-Encoding: chunked, identity"
    ),
    "unknown coding": request().replace(b"Content-Length: 14", b"Transfer-Encoding: xchunked"),
    "bare LF": request().replace(b"Host: r\r\n", b"Host: r\n"),
    "folded header": request(lines=b"X: a\r\n b\r\n"),
    "space before colon": request(lines=b"Transfer-Encoding : chunked\r\n"),
    "NUL in value": request(lines=b"X: a\x00b\r\n"),
    "NUL in name": request(lines=b"X\x00: a\r\n"),
    "no colon": request(lines=b"nothing\r\n"),
    "absolute form": request(target=b"http://other" + CHAT.encode()),
    "authority form": request().replace(b"POST " + CHAT.encode(), b"CONNECT other:80"),
}


@pytest.mark.parametrize("sent", SMUGGLED.values(), ids=SMUGGLED)
async def test_an_ambiguous_request_is_400_and_its_connection_is_closed(sent: bytes) -> None:
    async with backends.running() as (engine,), routing(engine) as router:
        # NB: what follows the ambiguous request must not be taken for a request of its own.
        answer = await router.raw(sent + request())
        assert answer.split()[1] in (b"400", b"405")
        assert answer.count(b"HTTP/1.") == 1
        assert b'"error":{' in answer
        assert engine.received == []


async def test_requests_in_a_pipeline_are_answered_in_order_each_by_itself() -> None:
    async with backends.running() as (engine,), routing(engine) as router:
        last = request(body=b'{"model": "nobody"}', lines=b"Connection: close\r\n")
        answer = await router.raw(request() + last)
        assert answer.count(b"HTTP/1.1 200") == 1
        assert answer.count(b"HTTP/1.1 404") == 1
        assert len(engine.received) == 1


async def test_only_named_headers_reach_the_engine() -> None:
    given = {
        "x-request-id": "abc",
        "traceparent": "00-1-2-03",
        "accept": "text/event-stream",
        "connection": "x-secret, tracestate",
        "x-secret": "1",
        "tracestate": "a=b",
        "x-gateway-destination-endpoint": "10.0.0.1",
        "x-llm-d-x": "1",
        "test-epp-endpoint-selection": "10.0.0.1",
        "x-forwarded-for": "10.0.0.1",
        "forwarded": "for=10.0.0.1",
        "authorization": "Bearer mine",
        "cookie": "a=b",
        "x-slipstream-probe": "guess",
        "content_length": "0",
        "te": "trailers",
    }
    async with backends.running() as (engine,), routing(engine) as router:
        assert (await router.ask(headers=given)).status == 200
        found = dict(engine.received[0].headers)
        assert found.pop("host") == f"127.0.0.1:{engine.port}"
        assert int(found.pop("content-length")) > 0
        assert found == {
            "content-type": "application/json",
            "x-request-id": "abc",
            "traceparent": "00-1-2-03",
            "accept": "text/event-stream",
        }


async def test_only_named_headers_reach_the_client() -> None:
    async with backends.running() as (engine,), routing(engine) as router:
        engine.always = backends.status(200, x_request_id="abc", set_cookie="a=b", x_internal="1")
        headers = (await router.ask()).headers
        assert headers["x-request-id"] == "abc"
        assert not {"set-cookie", "x-internal"} & {name.lower() for name in headers}


async def test_a_redirect_is_not_followed() -> None:
    async with backends.running(2) as (engine, other), routing(engine) as router:
        engine.always = backends.status(307, location=f"http://127.0.0.1:{other.port}/")
        assert (await router.ask()).status == 307
        assert other.received == []


@pytest.mark.parametrize(
    "path",
    [
        "/sleep", "/wake_up", "/metrics", "/v1/load_lora_adapter",
        "//v1/chat/completions", "/v1//chat/completions", "/v1/chat/completions/", "/invocations",
        "/v1/%2e%2e/sleep", "/v1/../sleep", "/v1/chat%2fcompletions", "/v1/responses/1",
        "/v1/responses/resp_1/input_items", "/",
    ],
)  # fmt: skip
async def test_other_paths_are_404(path: str) -> None:
    async with backends.running() as (engine,), routing(engine) as router:
        answer = await router.raw(request(target=path.encode(), lines=b"Connection: close\r\n"))
        assert answer.startswith(b"HTTP/1.1 404")
        assert engine.received == []


async def test_another_method_is_405() -> None:
    async with routing() as router:
        reply = await router.get(CHAT)
        assert reply.status == 405
        assert reply.headers["allow"] == "POST"


async def test_a_query_does_not_reach_the_engine() -> None:
    async with backends.running() as (engine,), routing(engine) as router:
        assert (await router.ask(CHAT + "?a=b")).status == 200
        assert engine.received[0].path == CHAT


async def ask_at(router: Running, host: str, model: str) -> Reply:
    return await router.ask(model=model, headers={"host": host})


async def test_the_host_or_the_model_tells_the_service() -> None:
    other = service(name="other", model="o", revisions=[{"name": "other-1", "weight": 100}])
    chat = service(adapters=["m-legal"])
    async with backends.running(2) as (one, two), routing(services=[chat, other]) as router:
        router.place({"chat-1": [one], "other-1": [two]})
        for host in ("chat.team.svc", "chat.team.svc.cluster.local:80", "chat", "CHAT.team"):
            assert (await ask_at(router, host, "m")).status == 200
            assert (await ask_at(router, host, "o")).status == 404
        assert (await ask_at(router, "slipstream-router.team.svc", "o")).status == 200
        assert (await ask_at(router, "chat.elsewhere.svc", "o")).status == 200
        assert (await ask_at(router, "chat", "m-legal")).status == 200
        assert [len(one.received), len(two.received)] == [5, 2]


async def test_models_are_listed_for_the_host() -> None:
    other = service(name="other", model="o")
    route = {"name": "r", "model": "both", "backends": [{"service": "chat", "weight": 1}]}
    async with routing() as router:
        router.configure(service(adapters=["a"]), other, routes=[route])
        listed = (await router.get("/v1/models")).content["data"]
        assert [each["id"] for each in listed] == ["m", "a", "o", "both"]
        here = (await router.get("/v1/models", host="chat.team.svc")).content["data"]
        assert [each["id"] for each in here] == ["m", "a"]


async def test_a_route_shares_requests_out_by_weight_under_the_services_own_names() -> None:
    draws = iter([0.0, 0.74, 0.75, 0.99])
    shares = [{"service": "chat", "weight": 3}, {"service": "other", "weight": 1}]
    route = {"name": "r", "model": "both", "backends": shares}
    other = service(name="other", model="o", revisions=[{"name": "other-1", "weight": 100}])
    async with backends.running(2) as (one, two), routing(chance=lambda: next(draws)) as router:
        router.configure(service(), other, routes=[route])
        router.place({"chat-1": [one], "other-1": [two]})
        for _ in range(4):
            assert (await router.ask(model="both", extra=1)).status == 200
        assert [each.content["model"] for each in one.received] == ["m", "m"]
        assert [each.content["model"] for each in two.received] == ["o", "o"]
        assert one.received[0].content["extra"] == 1


async def test_ten_thousand_malformed_requests_do_no_harm() -> None:
    async with backends.running() as (engine,), routing(engine, body_seconds=0.5) as router:
        source = malformed.Malformed(model="m", key="k", seed=20261126)
        crowd = malformed.Crowd(router.port)
        await crowd.send(source.requests(1000))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        await crowd.send(source.requests(9000))
        assert crowd.sent == 10_000
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024
        assert crowd.faults == []
        await until(router.settled)
        assert all(json.loads(received.body)["model"] == "m" for received in engine.received)
        assert (await router.ask()).status == 200


async def test_a_header_that_is_no_text_does_not_reach_the_engine_and_breaks_nothing() -> None:
    async with backends.running() as (engine,), routing(engine) as router:
        lines = b"X-Request-Id: \xff\xfe\r\nTraceparent: \xc3\xa9\r\nConnection: close\r\n"
        assert (await router.raw(request(lines=lines))).startswith(b"HTTP/1.1 200")
        assert engine.received[0].headers["x-request-id"].isascii()


async def test_the_library_does_not_tell_its_version() -> None:
    async with backends.running() as (engine,), routing(engine) as router:
        for reply in (
            await router.ask(),
            await router.ask(stream=True),
            await router.ask(model="x"),
        ):
            assert reply.headers["server"] == "slipstream"
