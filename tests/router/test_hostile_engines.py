"""An engine whose image is a tenant's own can answer anything. The router stays small, and serves all others."""

import asyncio
from collections.abc import Mapping

import pytest

from slipstream_runtime.web import openai
from tests.support import backends
from tests.support.backends import Behavior, Peer, Received
from tests.support.routers import routing

CHUNK = b"x" * 2**18
BODY = b'{"model":"m","messages":[{"role":"user","content":"hi"}]}'
REQUEST = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: r\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n" % len(BODY)
)
MOST = 16 * 2**20
"""Bytes that reach the router at most, with all buffers on the way."""


def endless(sent: list[int], part: bytes = CHUNK, **headers: str) -> Behavior:
    """Answer with a body without an end, and count its bytes."""

    async def behave(peer: Peer, received: Received) -> None:
        await peer.head(transfer_encoding="chunked", **headers)
        while True:
            await peer.chunk(part)
            sent[0] += len(part)

    return behave


async def test_a_list_of_models_without_an_end_is_not_read() -> None:
    async with backends.running() as (engine,), routing(engine) as router:
        sent = [0]
        engine.always = endless(sent)
        (card,) = (await router.get(openai.MODELS)).content["data"]
        assert card["max_model_len"] is None
        assert sent[0] < MOST


@pytest.mark.parametrize("headers", [{}, {"content_length": "10"}, {"content_encoding": "gzip"}])
async def test_an_answer_without_an_end_waits_for_its_client(headers: Mapping[str, str]) -> None:
    async with backends.running() as (engine,), routing(engine) as router:
        sent = [0]
        engine.always = endless(sent, **headers)
        reader, writer = await asyncio.open_connection("127.0.0.1", router.port, limit=2**16)
        writer.write(b"%s%s" % (REQUEST, BODY))
        assert await reader.readline()
        before = -1
        while before != sent[0]:
            before = sent[0]
            await asyncio.sleep(0.2)  # until nothing moves any more
        assert sent[0] < MOST
        writer.transport.abort()
