"""Picking: a prompt goes to the engine that has computed its prefix."""

from typing import Any

from tests.support import backends
from tests.support.routers import Running, routing, service

LONG = "You are a helpful assistant of the library. " * 40


def conversation(name: str, turns: int) -> list[dict[str, Any]]:
    system = {"role": "system", "content": f"{name}: {LONG}"}
    return [system, *({"role": "user", "content": f"question {n}"} for n in range(turns))]


async def places(router: Running, engines: Any, *names: str) -> list[int]:
    """Return the engine that got each conversation's next turn."""
    found = []
    for turn, name in enumerate(names):
        before = [len(engine.received) for engine in engines]
        reply = await router.ask(messages=conversation(name, turn + 1))
        assert reply.status == 200
        after = [len(engine.received) for engine in engines]
        found.append([b < a for b, a in zip(before, after, strict=True)].index(True))
    return found


async def test_a_conversation_stays_with_the_engine_that_knows_it() -> None:
    async with backends.running(2) as engines, routing(*engines) as router:
        found = await places(router, engines, "a", "b", "a", "a", "b", "b")
        assert found == [0, 1, 0, 0, 1, 1]
        assert [endpoint.pending for endpoint in router.chat.pool] == [0.0, 0.0]


async def test_an_engine_that_is_new_knows_nothing() -> None:
    async with backends.running(2) as engines, routing(*engines) as router:
        assert await places(router, engines, "a", "b", "a") == [0, 1, 0]
        router.engines(engines[1])
        router.engines(*engines)
        assert await places(router, engines, "b", "b", "a") == [1, 1, 0]


async def test_a_changed_strategy_holds_from_the_next_request_on() -> None:
    async with backends.running(2) as engines, routing(*engines) as router:
        assert await places(router, engines, "a", "a") == [0, 0]
        router.configure(service(strategy="LeastLoad"))
        assert await places(router, engines, "a", "a", "a", "a") == [0, 1, 0, 1]


async def test_a_request_that_no_engine_answers_leaves_nothing_pending() -> None:
    async with backends.running(2) as engines, routing(*engines) as router:
        for engine in engines:
            engine.always = backends.die
        reply = await router.ask(messages=conversation("a", 1))
        assert reply.status == 502
        assert [endpoint.pending for endpoint in router.chat.pool] == [0.0, 0.0]
