"""Equal requests are computed once, and an incomplete answer is never shared."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from slipstream_runtime.router import config
from slipstream_runtime.router.proxy.readers import SPOOL_BYTES
from tests.support import backends
from tests.support.backends import Held, Peer, Received
from tests.support.routers import CHAT, Running, routing, service, until

RESPONSES = {"ttl": 60, "size": 1_000_000}
HEAD = {"id": "c", "created": 1, "model": "m"}


async def whole(peer: Peer, received: Received) -> None:
    """Answer like vLLM, with three tokens."""
    if not received.streams:
        message = {"role": "assistant", "content": "0 1 2 "}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        kind = "chat.completion"
        await peer.whole({**HEAD, "object": kind, "choices": [choice], "usage": backends.USAGE})
        return
    await peer.stream()
    for number in range(3):
        end = "stop" if number == 2 else None
        choice = {"index": 0, "delta": {"content": f"{number} "}, "finish_reason": end}
        await peer.event({**HEAD, "object": "chat.completion.chunk", "choices": [choice]})
    if (received.content.get("stream_options") or {}).get("include_usage"):
        await peer.event({**HEAD, "choices": [], "usage": backends.USAGE})
    await peer.done()


async def breaks(peer: Peer, received: Received) -> None:
    await peer.stream()
    await peer.tokens(1)
    peer.reset()


def caching(router: Running, **fields: Any) -> None:
    router.configure(service(responses=RESPONSES, **fields))


def text(events: list[Any]) -> str:
    chunks = [event for event in events if event != "[DONE]" and event["choices"]]
    return "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)


async def test_a_thousand_identical_prompts_at_zero_are_one_request() -> None:
    async with backends.running(1) as [engine], routing() as router:
        engine.always = whole
        caching(router)
        asking = [asyncio.create_task(router.ask(temperature=0)) for _ in range(1000)]
        await until(lambda: router.chat.in_flight == 1000)
        router.engines(engine)
        replies = await asyncio.gather(*asking)

        assert {reply.status for reply in replies} == {200}
        assert sum(reply.headers["x-cache"] == "miss" for reply in replies) == 1
        assert len(engine.received) == 1


async def test_an_answer_is_kept_for_the_same_request_and_no_other() -> None:
    async with backends.running(1) as [engine], routing(engine) as router:
        engine.always = whole
        caching(router)
        first, second = await router.ask(temperature=0), await router.ask(temperature=0)
        assert (first.headers["x-cache"], second.headers["x-cache"]) == ("miss", "hit")
        assert (first.content, "age" in second.headers) == (second.content, True)
        caching(router, revisions=[{"name": "chat-2", "weight": 100}])
        router.place({"chat-2": [engine]})
        await router.ask(temperature=0)
        sampled = await router.ask(temperature=1)
        assert "x-cache" not in sampled.headers
        assert len(engine.received) == 3


async def test_a_stream_is_replayed_with_the_same_tokens_to_streams_and_whole_answers() -> None:
    async with backends.running(1) as [engine], routing(engine) as router:
        engine.always = whole
        caching(router)
        first = await router.ask(temperature=0, stream=True)
        again = await router.ask(temperature=0, stream=True)
        plain = await router.ask(temperature=0)

        assert text(first.events) == text(again.events) == "0 1 2 "
        assert plain.content["choices"][0]["message"]["content"] == "0 1 2 "
        assert not any("usage" in event for event in first.events if event != "[DONE]")
        assert len(engine.received) == 1


async def test_a_stream_that_breaks_off_is_not_kept() -> None:
    async with backends.running(1) as [engine], routing(engine) as router:
        engine.always, engine.script = whole, [breaks]
        caching(router)
        broken = await router.ask(temperature=0, stream=True)
        assert "error" in broken.events[-1]
        assert (await router.ask(temperature=0)).headers["x-cache"] == "miss"


async def test_an_answer_that_lacks_a_part_is_passed_on_and_not_kept() -> None:
    async with backends.running(1) as [engine], routing(engine) as router:
        caching(router)
        for _ in range(2):
            reply = await router.ask(temperature=0)
            assert (reply.status, reply.headers["x-cache"]) == (200, "miss")
        assert len(engine.received) == 2


async def test_a_follower_takes_over_when_the_leader_leaves() -> None:
    async with backends.running(1) as [engine], routing(engine) as router:
        held = Held()
        engine.always, engine.script = whole, [held]
        caching(router)
        leader = asyncio.create_task(router.ask(temperature=0))
        await until(lambda: held.waiting == 1)
        follower = asyncio.create_task(router.ask(temperature=0))
        await until(lambda: router.chat.in_flight == 2)
        leader.cancel()
        reply = await follower

        assert (reply.status, reply.headers["x-cache"]) == (200, "miss")
        assert (len(engine.received), held.abandoned) == (2, 1)


@contextlib.asynccontextmanager
async def unread(router: Running, **fields: Any) -> AsyncIterator[None]:
    """Ask for a stream, with a small buffer of which nothing is read."""
    found = socket.socket()
    found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    found.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(found, ("127.0.0.1", router.port))
    messages = [{"role": "user", "content": "hi"}]
    body = json.dumps({"model": "m", "messages": messages, "stream": True, **fields}).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nHost: r\r\nContent-Type: application/json\r\n"
    await loop.sock_sendall(found, f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    try:
        yield
    finally:
        found.close()


@pytest.mark.parametrize("size", [SPOOL_BYTES // 2, 4 * SPOOL_BYTES])
async def test_followers_do_not_wait_for_a_leader_that_does_not_read(size: int) -> None:
    release = asyncio.Event()

    async def long(peer: Peer, received: Received) -> None:
        await peer.stream()
        await release.wait()
        for _ in range(size // 8192):
            choice = {"index": 0, "delta": {"content": "x" * 8192}, "finish_reason": None}
            await peer.event({**HEAD, "object": "chat.completion.chunk", "choices": [choice]})
        choice = {"index": 0, "delta": {}, "finish_reason": "stop"}
        await peer.event({**HEAD, "object": "chat.completion.chunk", "choices": [choice]})
        await peer.event({**HEAD, "choices": [], "usage": backends.USAGE})
        await peer.done()

    async with backends.running(1) as [engine], routing(engine) as router:
        router.configure(service(responses={"ttl": 60, "size": 16 * SPOOL_BYTES}))
        engine.always, engine.script = whole, [long]
        async with unread(router, temperature=0):
            await until(lambda: len(engine.received) == 1)
            asking = [asyncio.create_task(router.ask(temperature=0)) for _ in range(20)]
            await until(lambda: router.chat.in_flight == 21)
            release.set()
            replies = await asyncio.gather(*asking)
            assert {reply.status for reply in replies} == {200}
            assert router.router.caches.used <= 16 * SPOOL_BYTES
        await until(lambda: router.chat.in_flight == 0)
        shared = size < SPOOL_BYTES
        assert len(engine.received) == (1 if shared else 21)
        assert (router.router.caches.used > 0) == shared


def at(address: str) -> aiohttp.ClientSession:
    """Return a client with an address of its own, which takes turns with the others."""
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(local_addr=(address, 0)))


async def test_a_refusal_of_the_leader_alone_is_not_that_of_its_followers() -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    async with (
        backends.running(1) as [engine],
        routing(engine) as router,
        at("127.0.0.2") as second,
        at("127.0.0.3") as third,
    ):
        engine.always, engine.script = whole, [held := Held()]
        caching(router, limits={"concurrency": 1, "queue": 3})
        url = f"http://127.0.0.1:{router.port}{CHAT}"
        running = asyncio.create_task(router.ask())
        await until(lambda: held.waiting == 1)
        waiting = [asyncio.create_task(router.ask()) for _ in range(2)]
        await until(lambda: router.chat.queued == 2)
        leader = asyncio.create_task(router.ask(temperature=0))
        await until(lambda: router.chat.queued == 3)
        follower = asyncio.create_task(third.post(url, json={**body, "temperature": 0}))
        await until(lambda: router.chat.in_flight == 5)
        other = asyncio.create_task(second.post(url, json=body))
        assert (await leader).status == 429
        await until(lambda: any(each.done() for each in waiting))
        held.release.set()
        assert {(await running).status, (await other).status, (await follower).status} == {200}
        assert sorted([(await each).status for each in waiting]) == [200, 429]


async def test_the_caches_of_all_services_share_their_memory() -> None:
    both = [
        service(name="chat", model="m", responses=RESPONSES),
        service(name="other", model="o", responses=RESPONSES),
    ]
    async with backends.running(1) as [engine], routing(engine, services=both) as router:
        engine.always = whole
        found = {"namespace": "team", "services": both, "caches": 3000}
        router.router.configure(config.Config.model_validate(found))
        router.engines(engine)

        async def ask(model: str, user: int) -> str:
            reply = await router.ask(temperature=0, model=model, seed=user)
            return str(reply.headers["x-cache"])

        for model, seed in [("m", 0), ("m", 1), ("o", 0), ("o", 1), ("m", 1), ("o", 2)]:
            await ask(model, seed)
            assert router.router.caches.used <= 3000
        assert await ask("o", 2) == "hit"
        assert await ask("m", 0) == "miss"
        router.configure(service(name="other", model="o"))
        assert router.router.caches.used == 0
