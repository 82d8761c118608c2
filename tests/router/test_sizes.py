"""Sizes of requests: text, media and headers each have a limit, and all bodies together have one."""

import asyncio
import base64
from typing import Any

import pytest

from slipstream_runtime.router import config
from slipstream_runtime.web import asgi
from tests.support import backends
from tests.support.routers import CHAT, routing, service, until

MIB = 1024 * 1024


def photo(size: int) -> dict[str, Any]:
    data = base64.b64encode(b"x" * (size * 3 // 4)).decode()
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}


async def test_photos_may_be_larger_than_text() -> None:
    async with backends.running() as (engine,), routing(engine) as router:
        messages = [{"role": "user", "content": [photo(6 * MIB) for _ in range(4)]}]
        assert (await router.ask(messages=messages)).status == 200
        assert len(engine.received[0].body) > 24 * MIB
        text = [{"role": "user", "content": "x" * (asgi.BODY_LIMIT + 1)}]
        assert (await router.ask(messages=text)).status == 413
        assert len(engine.received) == 1


async def test_a_body_past_the_limit_of_media_is_413_before_it_is_read() -> None:
    async with routing() as router:
        head = b"POST %s HTTP/1.1\r\nHost: r\r\nContent-Type: application/json\r\n" % CHAT.encode()
        length = b"Content-Length: %d\r\n\r\n" % (asgi.MEDIA_LIMIT + 1)
        assert (await router.raw(head + length)).startswith(b"HTTP/1.1 413")


async def test_all_bodies_together_are_bounded_until_their_answers_begin() -> None:
    held = backends.Held()
    async with backends.running() as (engine,), routing(engine) as router:
        engine.always = held
        memory = router.router.memory
        memory.most = 3 * MIB
        body = {"messages": [{"role": "user", "content": "x" * 2 * MIB}]}
        first = asyncio.create_task(router.ask(**body))
        await until(lambda: held.waiting == 1)
        refused = await router.ask(**body)
        assert refused.status == 429
        assert refused.headers["retry-after"] == "1"
        small = asyncio.create_task(router.ask())
        await until(lambda: held.waiting == 2)
        held.release.set()
        assert (await first).status == (await small).status == 200
        assert memory.used == 0


async def test_a_stream_gives_its_large_body_back_once_it_began() -> None:
    held = backends.Held(begun=1)
    async with backends.running() as (engine,), routing(engine) as router:
        engine.always = held
        memory = router.router.memory
        streaming = asyncio.create_task(router.ask(stream=True, user="x" * MIB))
        await until(lambda: held.waiting == 1 and memory.used == 0)
        held.release.set()
        assert (await streaming).whole


async def test_the_limits_of_bodies_are_those_of_the_configuration() -> None:
    async with backends.running() as (engine,), routing(engine) as router:
        settings = {"namespace": "team", "services": [service()]}
        router.router.configure(
            config.Config.model_validate({**settings, "bodies": {"size": 2 * MIB, "memory": MIB}})
        )
        assert (await router.ask(user="x" * 3 * MIB)).status == 413
        assert (await router.ask(user="x" * MIB)).status == 413  # the memory never has so much
        assert (await router.ask()).status == 200


async def test_the_text_of_a_chat_is_bounded_by_the_context_and_photos_and_batches_are_not() -> (
    None
):
    async with (
        backends.running() as (engine,),
        routing(engine, limits={"maxText": 2 * MIB}) as router,
    ):
        refused = await router.ask(messages=[{"role": "user", "content": "x" * 2 * MIB}])
        assert (refused.status, len(engine.received)) == (413, 0)
        assert "more than 2097152 bytes of text" in refused.body.decode()
        messages = [{"role": "user", "content": [photo(4 * MIB)]}]
        assert (await router.ask(messages=messages)).status == 200
        batch = ["x" * 10_000] * 300
        assert (await router.ask("/v1/embeddings", input=batch)).status == 200


def headed(*lines: bytes) -> bytes:
    fields = b"".join(line + b"\r\n" for line in lines)
    return b"GET /v1/models HTTP/1.1\r\nHost: r\r\nConnection: close\r\n%s\r\n" % fields


async def test_a_token_with_many_groups_and_cookies_pass() -> None:
    async with routing() as router:
        token = b"Authorization: Bearer " + b"x" * 60_000
        answer = await router.raw(headed(token, b"Cookie: " + b"y" * 50_000))
        assert answer.startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "lines",
    [[b"A: " + b"x" * 140_000], [b"A%d: " % n + b"x" * 60_000 for n in range(3)]],
    ids=["one", "together"],
)
@pytest.mark.parametrize("step", [10_000_000, 1_000])
async def test_larger_headers_are_431_with_the_limit(lines: list[bytes], step: int) -> None:
    async with routing() as router:
        reader, writer = await asyncio.open_connection("127.0.0.1", router.port)
        sent = headed(*lines)
        try:
            for at in range(0, len(sent), step):
                writer.write(sent[at : at + step])
                await writer.drain()
                await asyncio.sleep(0)
            answer = await reader.read(-1)
        except ConnectionError:
            answer = await reader.read(-1)
        finally:
            writer.close()
        assert answer.startswith(b"HTTP/1.1 431")
        assert b"128 KiB" in answer


async def test_a_target_that_is_too_long_is_414() -> None:
    async with routing() as router:
        answer = await router.raw(b"GET /" + b"x" * 9_000 + b" HTTP/1.1\r\nHost: r\r\n\r\n")
        assert b" 414 " in answer.splitlines()[0]
