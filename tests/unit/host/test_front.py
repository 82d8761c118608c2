"""The front: which requests reach vLLM, what is counted, and how a drain ends what is in flight."""

import asyncio
import contextlib
import json
from collections.abc import Awaitable
from typing import Any

import pytest

from slipstream_runtime import contract
from slipstream_runtime.host import front
from slipstream_runtime.host import routes as table
from slipstream_runtime.host.lifecycle import Lifecycle, Phase
from slipstream_runtime.host.limits import Limits
from slipstream_runtime.web import asgi
from slipstream_runtime.web.refusal import malformed
from tests.support.clients import CHAT, KEY, Client, Held, answer, life_in, request, turns


async def ask(guard: front.Front, scope: asgi.Scope | None = None) -> Client:
    client = Client()
    await guard(scope or request(), client.receive, client.send)
    return client


def guarded(app: asgi.Application, phase: Phase = Phase.READY) -> tuple[front.Front, Lifecycle]:
    life = life_in(phase)
    return front.Front(app, life=life, probe_key=KEY), life


@pytest.mark.parametrize(
    ("path", "method"),
    [
        ("/v1/chat/completions", "POST"),
        ("/v1/completions", "POST"),
        ("/v1/embeddings", "POST"),
        ("/v1/messages", "POST"),
        ("/v1/messages/count_tokens", "POST"),
        ("/score", "POST"),
        ("/v2/rerank", "POST"),
        ("/pooling", "POST"),
        ("/tokenize", "POST"),
        ("/v1/models", "GET"),
        ("/v1/models/org/name", "GET"),
        ("/v1/responses", "POST"),
        ("/v1/responses/resp_0a-b", "GET"),
        ("/v1/responses/resp_0a/cancel", "POST"),
        ("/health", "GET"),
        ("/version", "GET"),
    ],
)
async def test_the_routes_of_the_api_reach_vllm_by_their_method(path: str, method: str) -> None:
    guard, _ = guarded(answer)
    assert (await ask(guard, request(path, method=method))).status == 200
    assert (await ask(guard, request(path, method="OPTIONS"))).status == 200
    allowed = {"GET": ("GET", "HEAD"), "POST": ("POST",)}[method]
    for other in {"GET", "POST", "PUT", "HEAD", "DELETE"} - {*allowed}:
        client = await ask(guard, request(path, method=other))
        assert client.status == 405
        assert client.headers[b"allow"] == ", ".join(allowed).encode()
        kind = "invalid_request_error" if "messages" in path else "MethodNotAllowedError"
        assert json.loads(client.body)["error"]["type"] == kind


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/invocations",
        "/metrics",
        "/load",
        "/ping",
        "/docs",
        "/openapi.json",
        "/v1/models/",
        "/v1/responses/render",
        "/v1/responses/resp_0a/../../../tokenize",
        "/v1/chat/completions/render",
        "/v1/load_lora_adapter",
        "/scale_elastic_ep",
        "/readyz",
    ],
)
async def test_no_other_route_reaches_vllm(path: str) -> None:
    guard, _ = guarded(answer)
    for method in ("GET", "POST", "OPTIONS"):
        client = await ask(guard, request(path, method=method))
        assert client.status == 404
        assert json.loads(client.body)["error"]["code"] == 404


async def test_an_engine_may_have_routes_of_its_own() -> None:
    routes = {"/v1/rerank": table.COMPUTES, "/health": table.OPEN}
    guard = front.Front(answer, life=life_in(Phase.READY), probe_key=KEY, routes=routes)
    assert (await ask(guard, request("/v1/rerank"))).status == 200
    assert (await ask(guard, request("/health", method="GET"))).status == 200
    for path in (CHAT, "/v1/responses/resp_1"):
        assert (await ask(guard, request(path, method="GET"))).status == 404


@pytest.mark.parametrize(
    ("phase", "retry", "reason"),
    [(Phase.PROBING, b"5", "loading"), (Phase.DRAINING, b"1", "draining")],
)
async def test_requests_are_refused_while_not_ready(
    phase: Phase, retry: bytes, reason: str
) -> None:
    guard, _ = guarded(answer, phase)
    client = await ask(guard)
    assert client.status == 503
    assert client.headers[b"retry-after"] == retry
    assert client.headers[b"connection"] == b"close"
    error = json.loads(client.body)["error"]
    assert (error["code"], error["type"]) == (503, "ServiceUnavailableError")
    assert guard.refused[reason] == 1


async def test_only_the_engines_own_probe_passes_before_ready() -> None:
    guard, _ = guarded(answer, Phase.PROBING)
    for key, status in ((KEY, 200), ("other", 503)):
        scope = request(headers=[(front.PROBE_HEADER, key.encode())])
        assert (await ask(guard, scope)).status == status


async def test_requests_are_in_flight_until_their_response_is_complete() -> None:
    app = Held(begin=True)
    guard, _ = guarded(app)
    asked = [asyncio.create_task(ask(guard)) for _ in range(3)]
    await turns(lambda: guard.in_flight == 3)
    assert not await guard.emptied(within=0)
    app.release.set()
    clients = await asyncio.gather(*asked)
    assert guard.in_flight == 0
    assert await guard.emptied(within=0)
    assert all(client.complete for client in clients)


async def test_a_failing_application_is_out_of_flight_and_its_error_goes_on() -> None:
    async def fail(scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        raise ValueError("mine")

    guard, _ = guarded(fail)
    with pytest.raises(ValueError, match="mine"):
        await ask(guard)
    assert guard.in_flight == 0


@pytest.mark.parametrize(("path", "method"), [(CHAT, "POST"), ("/v1/models", "GET")])
async def test_what_the_application_refuses_is_answered_and_counted(path: str, method: str) -> None:
    async def refuse(scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        raise malformed("that is nothing", param="input")

    guard, _ = guarded(refuse)
    client = await ask(guard, request(path, method=method))
    assert client.status == 400
    assert json.loads(client.body)["error"] == {
        "message": "that is nothing",
        "type": "BadRequestError",
        "param": "input",
        "code": 400,
    }
    assert guard.refused["malformed"] == 1
    assert guard.in_flight == 0


async def test_an_engine_that_leaves_serves_what_still_comes_and_closes_its_connection() -> None:
    guard, _ = guarded(answer, Phase.LEAVING)
    client = await ask(guard)
    assert client.status == 200
    assert client.headers[b"connection"] == b"close"


@pytest.mark.parametrize(
    ("path", "body", "status"), [("/no/such/route", b"{}", 404), (CHAT, b"no JSON", 400)]
)
async def test_an_engine_that_leaves_closes_the_connections_of_what_it_refuses_too(
    path: str, body: bytes, status: int
) -> None:
    guard, _ = guarded(answer, Phase.LEAVING)
    client = Client(body)
    await guard(request(path), client.receive, client.send)
    assert client.status == status
    assert client.headers[b"connection"] == b"close"


async def test_a_drain_lets_streams_finish_and_sends_their_clients_away() -> None:
    app = Held(begin=False)
    guard, life = guarded(app)
    asked = asyncio.create_task(ask(guard))
    await turns(lambda: guard.in_flight == 1)
    life.enter(Phase.DRAINING)
    assert (await ask(guard)).status == 503
    app.release.set()
    client = await asked
    assert client.status == 200
    assert client.headers[b"connection"] == b"close"
    assert app.left == 0


async def test_responses_keep_their_connection_while_ready() -> None:
    guard, _ = guarded(answer)
    assert b"connection" not in (await ask(guard)).headers


async def aborted(app: Held) -> Client:
    guard, life = guarded(app)
    client = Client()
    asked = asyncio.create_task(_quietly(guard(request(), client.receive, client.send)))
    await turns(lambda: guard.in_flight == 1)
    for _ in range(10):
        await asyncio.sleep(0)
    life.enter(Phase.DRAINING)
    guard.abort()
    assert await guard.emptied(within=1)
    await asked
    assert app.left == 1
    return client


async def _quietly(running: Awaitable[Any]) -> None:
    with contextlib.suppress(ConnectionAbortedError):
        await running


async def test_an_aborted_stream_ends_with_an_error_and_without_done() -> None:
    client = await aborted(Held(begin=True))
    events = client.body.decode().split("\n\n")
    assert events[0] == "data: 1"
    assert json.loads(events[1].removeprefix("data: "))["error"]["code"] == 503
    assert b"[DONE]" not in client.body
    assert client.complete


async def test_an_aborted_request_without_an_answer_gets_503() -> None:
    client = await aborted(Held(begin=False))
    assert client.status == 503
    assert client.headers[b"connection"] == b"close"
    assert client.complete


async def test_an_aborted_answer_that_is_no_stream_is_left_incomplete() -> None:
    kind = [(b"content-type", b"application/json"), (b"content-length", b"99")]
    client = await aborted(Held(begin=True, headers=kind))
    assert not client.complete


async def test_a_client_that_leaves_is_noticed_by_the_application() -> None:
    app = Held(begin=True)
    guard, _ = guarded(app)
    client = Client()
    asked = asyncio.create_task(guard(request(), client.receive, client.send))
    await turns(lambda: guard.in_flight == 1)
    client.gone.set()
    await asked
    assert app.left == 1
    assert guard.in_flight == 0


async def test_head_reaches_vllm_as_get() -> None:
    seen: list[str] = []

    async def note(scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        seen.append(scope["method"])
        await asgi.respond(send, b"")

    guard, _ = guarded(note)
    for path in ("/health", "/v1/models", "/v1/models/m"):
        assert (await ask(guard, request(path, method="HEAD"))).status == 200
    assert seen == ["GET"] * 3


async def test_an_engine_serves_the_paths_of_its_tasks_only() -> None:
    served = table.routes({"/score", "/v1/rerank", "/tokenize"})
    guard = front.Front(answer, life=life_in(Phase.READY), probe_key=KEY, routes=served)
    for path in ("/score", "/v1/rerank", "/tokenize"):
        assert (await ask(guard, request(path))).status == 200
    for path in ("/v1/chat/completions", "/v1/messages", "/v1/embeddings", "/version"):
        assert (await ask(guard, request(path))).status == 404


SPEECH = "/v1/audio/transcriptions"


def upload(*headers: tuple[bytes, bytes]) -> asgi.Scope:
    kind = (b"content-type", b"multipart/form-data; boundary=b")
    return {**request(SPEECH), "headers": [kind, *headers]}


async def reading(scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
    """Answer with the size of the body, or leave with the client as vLLM does."""
    size = len(await asgi.read(receive, limit=1 << 40))
    await asgi.respond(send, str(size).encode())


async def test_an_upload_streams_to_vllm() -> None:
    guard, _ = guarded(reading)
    client = Client(b"1234", b"567")
    await guard(upload(), client.receive, client.send)
    assert (client.status, client.body) == (200, b"7")
    assert guard.in_flight == 0


async def test_an_upload_without_a_length_ends_where_it_is_too_large() -> None:
    guard, _ = guarded(reading)
    part = bytes(4 * 1024 * 1024)
    client = Client(*[part] * 8)
    await guard(upload(), client.receive, client.send)
    assert client.status == 413
    assert client.headers[b"connection"] == b"close"
    assert guard.refused["too_large"] == 1


async def test_an_upload_may_be_as_large_as_the_engine_says() -> None:
    part = bytes(4 * 1024 * 1024)
    guard = front.Front(
        reading,
        life=life_in(Phase.READY),
        probe_key=KEY,
        guard=front.Guard(uploads=contract.upload_limit(40)),
    )
    client = Client(*[part] * 8)
    await guard(upload((b"content-length", b"33554432")), client.receive, client.send)
    assert (client.status, client.body) == (200, b"33554432")


async def test_an_upload_is_refused_by_its_length_and_its_kind() -> None:
    guard, _ = guarded(reading)
    assert (await ask(guard, upload((b"content-length", b"30000000")))).status == 413
    assert (await ask(guard, request(SPEECH))).status == 415
    json_only = {**upload(), "path": CHAT}
    assert (await ask(guard, json_only)).status == 415


async def test_an_upload_needs_a_slot_and_a_count_of_tokens_does_not() -> None:
    held_app, calls = Held(begin=False), []

    async def app(scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        calls.append(scope["path"])
        await held_app(scope, receive, send)

    limits = Limits(concurrency=1, queue=0)
    guard = front.Front(
        app, life=life_in(Phase.READY), probe_key=KEY, guard=front.Guard(limits=limits)
    )
    client = Client()
    held = asyncio.create_task(guard(request(), client.receive, client.send))
    await turns(lambda: calls == [CHAT])
    assert (await ask(guard, upload())).status == 429
    held_app.release.set()
    assert (await ask(guard, request("/tokenize"))).status == 200
    await held


@pytest.mark.parametrize(
    "parts", [[b"12", b"345"], [bytes(1024 * 1024)] * 4], ids=["small", "large"]
)
async def test_an_upload_that_waits_for_a_slot_reaches_the_application_whole(
    parts: list[bytes],
) -> None:
    held_app, calls, sizes = Held(begin=False), [], []

    async def app(scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        calls.append(scope["path"])
        if scope["path"] == CHAT:
            await held_app(scope, receive, send)
            return
        sizes.append(len(await asgi.read(receive, limit=1 << 40)))
        await asgi.respond(send, b"")

    limits = Limits(concurrency=1, queue=1)
    guard = front.Front(
        app, life=life_in(Phase.READY), probe_key=KEY, guard=front.Guard(limits=limits)
    )
    first, second = Client(), Client(*parts)
    held = asyncio.create_task(guard(request(), first.receive, first.send))
    await turns(lambda: calls == [CHAT])
    waiting = asyncio.create_task(guard(upload(), second.receive, second.send))
    await turns(lambda: guard.queued == 1)
    for _ in range(20):  # what the client sends meanwhile is received
        await asyncio.sleep(0)
    held_app.release.set()
    await asyncio.gather(held, waiting)
    assert (second.status, sizes) == (200, [sum(map(len, parts))])


async def test_an_upload_whose_client_leaves_while_it_waits_for_a_slot_gives_up() -> None:
    held_app, calls = Held(begin=False), []

    async def app(scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        calls.append(scope["path"])
        await held_app(scope, receive, send)

    limits = Limits(concurrency=1, queue=1)
    guard = front.Front(
        app, life=life_in(Phase.READY), probe_key=KEY, guard=front.Guard(limits=limits)
    )
    first, second = Client(), Client(b"12", b"345")
    held = asyncio.create_task(guard(request(), first.receive, first.send))
    await turns(lambda: calls == [CHAT])
    waiting = asyncio.create_task(guard(upload(), second.receive, second.send))
    await turns(lambda: guard.queued == 1)
    second.gone.set()
    await waiting
    assert (guard.queued, calls) == (0, [CHAT])
    held_app.release.set()
    await held


@pytest.mark.parametrize("scope", [request(), upload()], ids=["json", "upload"])
async def test_a_body_that_takes_longer_than_its_limit_is_408(scope: asgi.Scope) -> None:
    async def never() -> asgi.Message:
        return await asyncio.Future()

    limits = Limits(body_seconds=0.05)
    guard = front.Front(
        reading, life=life_in(Phase.READY), probe_key=KEY, guard=front.Guard(limits=limits)
    )
    client = Client()
    await guard(scope, never, client.send)
    assert client.status == 408
    assert b"0.05 s" in client.body


async def test_the_lifespan_passes_and_websockets_do_not() -> None:
    seen: list[str] = []

    async def note(scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        seen.append(scope["type"])

    guard, _ = guarded(note, Phase.STARTING)
    client = Client()
    for kind in ("lifespan", "websocket"):
        await guard({"type": kind, "path": CHAT}, client.receive, client.send)
    assert seen == ["lifespan"]


async def test_metrics_are_shown_without_a_key_where_a_picker_reads_them() -> None:
    shown = front.Front(
        answer,
        life=life_in(Phase.LOADING),
        probe_key=KEY,
        guard=front.Guard(metrics=lambda: b"# TYPE load gauge\nload 1\n"),
    )
    client = await ask(shown, request("/metrics", method="GET"))
    assert client.status == 200
    assert client.body == b"# TYPE load gauge\nload 1\n"
    assert client.headers[b"content-type"].startswith(b"text/plain; version=")
    assert (await ask(shown, request("/metrics", method="POST"))).status == 404
    assert (await ask(shown, request("/metrics/", method="GET"))).status == 404
