"""The search service in front of a scripted encoder, with answers that a working one does not give."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import numpy as np
import pytest
from aiohttp import web

from dev import metrics
from slipstream_runtime import contract
from slipstream_runtime.retrieval.embeddings import Embeddings
from slipstream_runtime.retrieval.index import Index
from slipstream_runtime.retrieval.passages import Passage
from slipstream_runtime.retrieval.server import IN_FLIGHT, Server
from slipstream_runtime.web import sockets
from tests.support import backends
from tests.support.backends import Backend, Behavior, Held, Peer, Received, status
from tests.support.routers import until

PATH = "/v1/vector_stores/texts/search"
INDEX = Index(
    [Passage("one", "a.md"), Passage("two", "b.md")],
    np.asarray([[1.0, 0.0], [0.0, 1.0]], np.float32),
    "minilm",
    np.asarray([1.0, 0.0], np.float32),
)


def vectors(*numbers: list[float]) -> Behavior:
    async def behave(peer: Peer, received: Received) -> None:
        found = [{"index": index, "embedding": each} for index, each in enumerate(numbers)]
        await peer.whole({"data": found[::-1]})

    return behave


@pytest.fixture
async def encoder() -> AsyncIterator[Backend]:
    async with backends.running() as (found,):
        found.always = vectors([2.0, 0.0])
        yield found


class Client:
    """Client of the service's ports."""

    def __init__(self, http: aiohttp.ClientSession, api: int, management: int) -> None:
        self._http = http
        self._api = f"http://127.0.0.1:{api}"
        self._management = f"http://127.0.0.1:{management}"

    async def search(
        self, content: Any = None, *, path: str = PATH, raw: bytes | None = None
    ) -> Any:
        body: dict[str, Any] = {"json": content or {"query": "x"}} if raw is None else {"data": raw}
        async with self._http.post(self._api + path, **body) as reply:
            return reply.status, await reply.json()

    async def with_key(self, header: bytes) -> tuple[int, bytes]:
        """Search with a header of these bytes, which no client would send; return the status and the answer."""
        body = b'{"query": "x"}'
        reader, writer = await asyncio.open_connection("127.0.0.1", int(self._api.split(":")[-1]))
        head = (
            f"POST {PATH} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {len(body)}"
        )
        writer.write(head.encode() + b"\r\nauthorization: " + header + b"\r\n\r\n" + body)
        answer = await reader.read()
        writer.close()
        return int(answer.split()[1]), answer

    async def get(self, path: str) -> tuple[int, str]:
        async with self._http.get(self._management + path) as reply:
            return reply.status, await reply.text()


@contextlib.asynccontextmanager
async def serving(
    encoder: Backend, *, seconds: float = 60.0, key: str | None = None
) -> AsyncIterator[tuple[Server, Client]]:
    async with contextlib.AsyncExitStack() as stack:
        url = f"http://127.0.0.1:{encoder.port}/v1"
        embeddings = await stack.enter_async_context(
            Embeddings(url, model="minilm", key="k", seconds=seconds)
        )
        server = Server(INDEX, embeddings, name="texts", key=key)
        ports = []
        for app in (server.api(), server.management()):
            runner = web.AppRunner(app)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            bound = sockets.bind(0)
            ports.append(bound.getsockname()[1])
            await web.SockSite(runner, bound).start()
        connector = aiohttp.TCPConnector(limit=0)
        http = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        yield server, Client(http, *ports)


async def test_the_nearest_passage_comes_first_and_is_counted(encoder: Backend) -> None:
    async with serving(encoder) as (_, client):
        code, page = await client.search({"query": "x", "max_num_results": 1})
        assert code == 200
        (found,) = page["data"]
        assert (found["filename"], found["score"]) == ("a.md", 1.0)
        assert found["content"] == [{"type": "text", "text": "one"}]
        asked = encoder.received[0]
        assert asked.headers["authorization"] == "Bearer k"
        assert asked.content["input"] == ["x"]
        _, text = await client.get(contract.METRICS_PATH)
        assert metrics.total(text, "slipstream_retrieval_requests_total", code="200") == 1
        assert metrics.total(text, "slipstream_retrieval_passages") == 2


BROKEN: dict[str, Behavior] = {
    "an error": status(500),
    "a redirect": status(307, location="http://169.254.169.254/"),
    "no vector": vectors(),
    "two vectors": vectors([1.0, 0.0], [1.0, 0.0]),
    "another length": vectors([1.0, 0.0, 0.0]),
    "a vector of length zero": vectors([0.0, 0.0]),
    "a length beyond all numbers": vectors([1e300, 1e300]),
    "no numbers": vectors(["a"]),  # type: ignore[list-item]
    "reset": backends.die,
}


@pytest.mark.parametrize("behavior", BROKEN.values(), ids=BROKEN)
async def test_an_encoder_that_fails_is_502(encoder: Backend, behavior: Behavior) -> None:
    encoder.always = behavior
    async with serving(encoder) as (_, client):
        code, answer = await client.search()
        assert (code, answer["error"]["code"]) == (502, 502)


async def test_an_encoder_that_hangs_is_502(encoder: Backend) -> None:
    encoder.always = Held()
    async with serving(encoder, seconds=0.05) as (_, client):
        assert (await client.search())[0] == 502


MALFORMED = [b"", b"[]", b"{", b'{"query": 1}', b'{"query": ["a"]}', b"[" * 60_000, b"\xff"]


@pytest.mark.parametrize("raw", MALFORMED)
async def test_a_malformed_body_is_400(encoder: Backend, raw: bytes) -> None:
    async with serving(encoder) as (_, client):
        code, answer = await client.search(raw=raw)
        assert (code, answer["error"]["code"]) == (400, 400)
        assert (await client.search(path="/v1/other"))[0] == 404


@pytest.mark.parametrize("given", ["Bearer \udcff", "Bearer k\udcc3", "Bearer", "k", ""])
async def test_a_key_of_any_bytes_is_refused(encoder: Backend, given: str) -> None:
    async with serving(encoder, key="ü") as (_, client):
        assert (await client.with_key(given.encode(errors="surrogateescape")))[0] == 401
        assert (await client.with_key("Bearer ü".encode()))[0] == 200


async def test_half_of_a_surrogate_pair_is_refused(encoder: Backend) -> None:
    async with serving(encoder) as (_, client):
        assert (await client.search(raw=b'{"query": "\\ud83d"}'))[0] == 400


async def test_readiness_follows_the_encoder(encoder: Backend) -> None:
    async with serving(encoder) as (server, client):
        assert (await client.get(contract.READY_PATH))[0] == 503
        watching = asyncio.create_task(server.watch())
        await until(lambda: server.ready)
        assert (await client.get(contract.READY_PATH))[0] == 200
        watching.cancel()


async def test_another_encoder_than_the_indexs_own_answers_nothing(encoder: Backend) -> None:
    encoder.always = vectors([0.0, 1.0])
    async with serving(encoder) as (server, client):
        watching = asyncio.create_task(server.watch())
        await until(lambda: bool(encoder.received))
        await until(lambda: server.foreign)
        assert (await client.get(contract.READY_PATH))[0] == 503
        assert (await client.search())[0] == 503
        watching.cancel()


async def test_searches_at_once_are_bounded(encoder: Backend) -> None:
    encoder.always = held = Held(then=vectors([1.0, 0.0]))
    async with serving(encoder) as (_, client):
        first = asyncio.create_task(client.search())
        await until(lambda: held.waiting == 1)
        others = [asyncio.create_task(client.search()) for _ in range(IN_FLIGHT)]
        done, _ = await asyncio.wait(others, return_when=asyncio.FIRST_COMPLETED)
        assert [(await each)[0] for each in done] == [429] * len(done)
        held.release.set()
        assert (await first)[0] == 200
        codes = [code for code, _ in await asyncio.gather(*others)]
        assert codes.count(429) == len(done)
