"""Every form of request that vLLM serves: which path reaches an engine, how it ends, and how it is counted."""

import base64
import email
import json
from pathlib import Path

import aiohttp
import pytest

from slipstream_runtime.web import openai
from tests.support import backends
from tests.support.routers import routing, service, until

JSON_PATHS = [path for path, form in openai.FORMS.items() if not form.uploads]
UPLOADS = [path for path, form in openai.FORMS.items() if form.uploads]
AUDIO = b"RIFF\0\xff--x\r\n" * 10_000


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    (tmp_path / "chat").mkdir()
    (tmp_path / "chat" / "red").write_text("secret")
    return tmp_path


def budget(keys: Path, tokens: int) -> None:
    digest = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"  # of "secret"
    (keys / "chat" / "red").write_text(f"sha256: {digest}\ntokensPerMinute: {tokens}\n")


KEY = {"authorization": "Bearer secret"}


@pytest.mark.parametrize("path", JSON_PATHS)
async def test_a_request_of_every_form_reaches_an_engine(path: str) -> None:
    async with backends.running() as (engine,), routing(engine) as router:
        assert (await router.ask(path)).status == 200
        assert [received.path for received in engine.received] == [path]


def form(model: str = "m", **fields: str) -> aiohttp.FormData:
    data = aiohttp.FormData({"model": model, **fields})
    data.add_field("file", AUDIO, filename="a.wav", content_type="audio/wav")
    return data


@pytest.mark.parametrize("path", UPLOADS)
async def test_an_upload_reaches_the_engine_whole(path: str) -> None:
    async with backends.running() as (engine,), routing(engine) as router:
        engine.always = backends.status(200)
        url = f"http://127.0.0.1:{router.port}{path}"
        async with router.http.post(url, data=form(language="de")) as response:
            assert response.status == 200
        [received] = engine.received
        assert received.headers["content-type"].startswith("multipart/form-data; boundary=")
        assert AUDIO in received.body
        assert b'name="language"\r\n\r\nde\r\n' in received.body
        assert b'name="file"; filename="a.wav"\r\ncontent-type: audio/wav' in received.body


async def test_an_upload_is_sent_again_to_another_replica_if_the_first_dies() -> None:
    async with backends.running(2) as engines, routing(*engines) as router:
        for engine in engines:
            engine.script, engine.always = [backends.die], backends.status(200)
        engines[1].script = []
        url = f"http://127.0.0.1:{router.port}{openai.TRANSCRIPTIONS}"
        for _ in range(2):
            async with router.http.post(url, data=form()) as response:
                assert response.status == 200
        assert all(AUDIO in received.body for e in engines for received in e.received)


@pytest.mark.parametrize("path", UPLOADS)
async def test_an_upload_to_a_route_reaches_the_engine_with_the_model_of_its_service(
    path: str,
) -> None:
    services = [service(model="tiny")]
    routes = [{"name": "r", "model": "m", "backends": [{"service": "chat", "weight": 1}]}]
    async with backends.running() as (engine,), routing(engine, services=services) as router:
        router.configure(*services, routes=routes)
        engine.always = backends.status(200)
        url = f"http://127.0.0.1:{router.port}{path}"
        async with router.http.post(url, data=form(language="de")) as response:
            assert response.status == 200
        [received] = engine.received
        reader = email.message_from_bytes(
            b"content-type: "
            + received.headers["content-type"].encode()
            + b"\r\n\r\n"
            + received.body
        )
        fields = {
            part.get_param("name", header="content-disposition"): part.get_payload(decode=True)
            for part in reader.walk()
            if not part.is_multipart()
        }
        assert fields["model"] == b"tiny"
        assert fields["language"] == b"de"
        assert fields["file"] == AUDIO


async def test_an_upload_with_two_models_or_none_reaches_no_engine() -> None:
    async with backends.running() as (engine,), routing(engine) as router:
        url = f"http://127.0.0.1:{router.port}{openai.TRANSCRIPTIONS}"
        two = form()
        two.add_field("model", "other")
        none = aiohttp.FormData({"language": "de"})
        none.add_field("file", AUDIO, filename="a.wav")
        for data in (two, none):
            async with router.http.post(url, data=data) as response:
                assert response.status == 400
                assert (await response.json())["error"]["param"] == "model"
        assert engine.received == []


async def test_json_is_no_upload_and_an_upload_no_json() -> None:
    async with routing() as router:
        assert (await router.ask(openai.TRANSCRIPTIONS)).status == 415
        headers = {"content-type": "multipart/form-data; boundary=x"}
        assert (await router.ask(raw=b"--x--\r\n", headers=headers)).status == 415
        reply = await router.ask(openai.TRANSCRIPTIONS, raw=b"nothing", headers=headers)
        assert reply.status == 400


async def test_a_client_of_anthropic_sends_its_key_and_reads_errors_in_its_own_form(
    keys: Path,
) -> None:
    services = [service(keys=True)]
    async with (
        backends.running() as (engine,),
        routing(engine, services=services, keys=keys) as router,
    ):
        refused = await router.ask(openai.MESSAGES)
        assert refused.status == 401
        assert refused.content["type"] == "error"
        assert refused.content["error"]["type"] == "authentication_error"
        unknown = await router.ask(openai.MESSAGES, headers={"x-api-key": "secret"}, model="other")
        assert (unknown.status, unknown.content["error"]["type"]) == (404, "not_found_error")
        headers = {"x-api-key": "secret", "anthropic-version": "2023-06-01"}
        assert (await router.ask(openai.MESSAGES, headers=headers)).status == 200
        assert engine.received[0].headers["anthropic-version"] == "2023-06-01"
        assert "x-api-key" not in engine.received[0].headers


async def messages_stream(peer: backends.Peer, received: backends.Received) -> None:
    await peer.stream()
    usage = {"input_tokens": 5, "output_tokens": 0}
    await peer.chunk(b"event: message_start\ndata: %s\n\n" % json.dumps({"usage": usage}).encode())
    await peer.chunk(b'event: content_block_delta\ndata: {"delta": {"text": "x"}}\n\n')
    usage = {"input_tokens": 5, "cache_read_input_tokens": 100, "output_tokens": 9}
    await peer.chunk(b"event: message_delta\ndata: %s\n\n" % json.dumps({"usage": usage}).encode())
    if received.content.get("breaks"):
        peer.reset()
        return
    await peer.chunk(b'event: message_stop\ndata: {"type": "message_stop"}\n\n')
    await peer.write(b"0\r\n\r\n")


async def test_a_stream_of_messages_ends_with_its_own_event_and_counts_cached_tokens() -> None:
    async with backends.running() as (engine,), routing(engine) as router:
        engine.always = messages_stream
        reply = await router.ask(openai.MESSAGES, stream=True, max_tokens=9)
        assert reply.whole
        assert b"error" not in reply.body
        assert "stream_options" not in engine.received[0].content
        tokens = "slipstream_router_tokens_total"
        assert await router.metric(tokens, kind="prompt") == 105
        assert await router.metric(tokens, kind="output") == 9


async def test_a_broken_stream_of_messages_ends_with_an_event_that_anthropics_clients_raise() -> (
    None
):
    async with backends.running() as (engine,), routing(engine) as router:
        engine.always = messages_stream
        reply = await router.ask(openai.MESSAGES, stream=True, breaks=True)
        last = reply.body.decode().strip().split("\n\n")[-1]
        name, data = last.split("\n")
        assert name == "event: error"
        assert json.loads(data.removeprefix("data: "))["error"]["type"] == "api_error"
        assert await router.metric("slipstream_router_broken_streams_total") == 1


@pytest.mark.parametrize("path", [p for p, each in openai.FORMS.items() if not each.computes])
async def test_counting_tokens_costs_none_and_is_no_latency(path: str, keys: Path) -> None:
    budget(keys, 5)
    services = [service(keys=True)]
    async with (
        backends.running() as (engine,),
        routing(engine, services=services, keys=keys) as router,
    ):
        for _ in range(3):
            assert (await router.ask(path, headers=KEY, prompt="x" * 400)).status == 200
        counts = (
            "slipstream_router_requests_total",
            "slipstream_router_request_duration_seconds_count",
            "slipstream_router_queue_duration_seconds_count",
        )
        assert [await router.metric(name) for name in counts] == [0, 0, 0]
        budget(keys, 5_000)
        await until(lambda: router.chat.client(b"secret").tokens_per_minute == 5_000)
        assert (await router.ask(headers=KEY, max_tokens=1)).status == 200
        assert [await router.metric(name) for name in counts] == [1, 1, 1]


async def test_an_image_costs_the_tokens_of_an_image_and_not_those_of_its_text(keys: Path) -> None:
    budget(keys, 5_000)
    image = "data:image/png;base64," + base64.b64encode(b"x" * 3_000_000).decode()
    content = [{"type": "image_url", "image_url": {"url": image}}]
    services = [service(keys=True)]
    async with (
        backends.running() as (engine,),
        routing(engine, services=services, keys=keys) as router,
    ):
        messages = [{"role": "user", "content": content}]
        reply = await router.ask(headers=KEY, messages=messages, max_tokens=10)
        assert reply.status == 200
        text = await router.ask(headers=KEY, prompt="x" * 40_000, max_tokens=10)
        assert text.status == 429


async def test_an_answer_without_usage_costs_its_prompt(keys: Path) -> None:
    budget(keys, 1_000)
    services = [service(keys=True)]
    async with (
        backends.running() as (engine,),
        routing(engine, services=services, keys=keys) as router,
    ):
        engine.always = backends.status(200)
        asked = {"headers": KEY, "input": "x" * 3_000}
        assert (await router.ask(openai.EMBEDDINGS, **asked)).status == 200
        assert (await router.ask(openai.EMBEDDINGS, **asked)).status == 429


async def test_vectors_in_bytes_cost_the_usage_that_their_header_reports(keys: Path) -> None:
    described = json.dumps(
        {
            "data": [{"index": number, "start": number, "end": number} for number in range(1_000)],
            "usage": {"prompt_tokens": 321, "total_tokens": 321},
        }
    )

    async def vectors(peer: backends.Peer, received: backends.Received) -> None:
        await peer.head(
            content_type="application/octet-stream", content_length="4", metadata=described
        )
        await peer.write(b"\0\1\2\3")

    budget(keys, 1_000)
    async with (
        backends.running() as (engine,),
        routing(engine, services=[service(keys=True)], keys=keys) as router,
    ):
        engine.always = vectors
        url = f"http://127.0.0.1:{router.port}{openai.EMBEDDINGS}"
        body = {"model": "m", "input": "x", "encoding_format": "bytes"}
        async with (
            aiohttp.ClientSession(max_field_size=2**18) as http,
            http.post(url, json=body, headers=KEY) as response,
        ):
            assert (response.status, await response.read()) == (200, b"\0\1\2\3")
            assert response.headers["metadata"] == described
        left = router.chat.budgets.left("red")
        assert 1_000 - 321 <= left < 1_000 - 250


async def test_the_usage_at_the_end_of_a_long_answer_is_counted() -> None:
    async def answer(peer: backends.Peer, received: backends.Received) -> None:
        await peer.whole({"data": "1" * 2_000_000, "usage": {"prompt_tokens": 11}})

    async with backends.running() as (engine,), routing(engine) as router:
        engine.always = answer
        assert (await router.ask(openai.EMBEDDINGS, input="x")).status == 200
        assert await router.metric("slipstream_router_tokens_total", kind="prompt") == 11


async def test_the_client_port_says_that_it_is_well_until_the_router_leaves() -> None:
    idle = service(name="idle", model="idle", activation=None, revisions=[])
    async with (
        backends.running() as (engine,),
        routing(engine, services=[service(), idle]) as router,
    ):
        url = f"http://127.0.0.1:{router.port}{openai.HEALTH}"
        async with router.http.head(url) as response:
            assert response.status == 200
        assert (await router.get(openai.HEALTH, host="chat")).status == 200
        assert (await router.get(openai.HEALTH, host="idle")).status == 503
        assert engine.received == []
        router.router.front.closed = True
        assert (await router.get(openai.HEALTH)).status == 503


async def test_a_model_is_described_as_vllm_describes_it() -> None:
    async def describe(peer: backends.Peer, received: backends.Received) -> None:
        await peer.whole({"data": [{"id": "org/m", "max_model_len": 4096}]})

    services = [service(model="org/m", adapters=["tuned"])]
    async with backends.running() as (engine,), routing(engine, services=services) as router:
        engine.always = describe
        listed = (await router.get(openai.MODELS)).content["data"]
        assert [card["id"] for card in listed] == ["org/m", "tuned"]
        assert [card["parent"] for card in listed] == [None, "org/m"]
        assert all(card["max_model_len"] == 4096 and card["created"] > 0 for card in listed)
        for path in ("/v1/models/org/m", "/v1/models/org%2Fm"):
            assert (await router.get(path)).content == listed[0]
        assert (await router.get("/v1/models/other")).status == 404
        assert len(engine.received) == 1
