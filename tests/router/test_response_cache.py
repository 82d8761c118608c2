"""Equal requests are computed once, and an incomplete answer is never shared."""

import asyncio
from typing import Any

from tests.support import backends
from tests.support.backends import Held, Peer, Received
from tests.support.routers import Running, routing, service, until

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
