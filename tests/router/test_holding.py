"""Requests without a free slot: queued in order, one activation, released up to the engines' slots, never lost."""

import asyncio
import functools
from typing import Any

from slipstream_runtime import contract
from slipstream_runtime.router.balancing.endpoints import DEFAULT_CONCURRENCY
from tests.support import backends
from tests.support.backends import Backend, Held, Peer, Received
from tests.support.routers import Running, routing, service, until

BUSY = {"concurrency": 4}


async def ask_all(router: Running, count: int, **fields: Any) -> list["asyncio.Task[Any]"]:
    """Send requests one after the other, each once the one before is admitted."""
    tasks = []
    for number in range(count):
        tasks.append(asyncio.create_task(router.ask(user=str(number), **fields)))
        await until(lambda: router.router.front.in_flight == len(tasks))
    return tasks


def order(engine: Backend) -> list[int]:
    return [int(received.content["user"]) for received in engine.received]


async def test_two_hundred_requests_at_zero_wake_once_and_are_answered_in_order() -> None:
    async with backends.running() as (engine,), routing(limits={"concurrency": 8}) as router:
        router.router._activator._period = 3600.0  # however slow the machine: one period
        engine.always = queued = Held()
        tasks = await ask_all(router, 200)
        assert router.chat.queued == 200
        assert router.renewed == ["chat-activation"]

        router.engines(engine)
        await until(lambda: queued.waiting == 8)
        assert sorted(order(engine)) == list(range(8))
        queued.release.set()
        replies = await asyncio.gather(*tasks)
        assert {reply.status for reply in replies} == {200}
        assert queued.most == 8
        assert sorted(order(engine)) == list(range(200))
        # NB: those that are released together take connections of their own, which arrive as they like.
        assert all(abs(number - place) < 16 for place, number in enumerate(order(engine)))


async def test_a_thousand_identical_prompts_are_released_in_order_and_never_past_a_place() -> None:
    async with backends.running(2) as engines, routing(limits={"concurrency": 5}) as router:
        queued, arrived = Held(), []

        async def note(peer: Peer, received: Received) -> None:
            arrived.append(received.content["user"])
            await queued(peer, received)

        counts = [Usage(note), Usage(note)]
        for engine, behavior in zip(engines, counts, strict=True):
            engine.always = behavior
        tasks = [asyncio.create_task(router.ask(user=str(number))) for number in range(1000)]
        await until(lambda: router.chat.queued == 1000)
        queue = [waiter.request.content["user"] for waiter in router.chat._queue]
        router.engines(*engines)
        await until(lambda: queued.waiting == 10)
        queued.release.set()
        assert {reply.status for reply in await asyncio.gather(*tasks)} == {200}
        assert [each.most for each in counts] == [5, 5]
        assert sorted(arrived) == sorted(queue)
        # NB: those that are released together take connections of their own, which arrive as they like.
        place = {user: number for number, user in enumerate(queue)}
        assert all(abs(place[user] - at) < 2 * 10 for at, user in enumerate(arrived))


async def test_an_engine_gets_as_many_requests_as_it_says_that_it_runs_at_once() -> None:
    async with backends.running() as (engine,), routing() as router:
        engine.metrics += f"{contract.SEQUENCES} 3.0\n"
        engine.always = queued = Held()
        router.engines(engine)
        [known] = [*router.chat.pool]
        await until(lambda: known.capacity == 3)
        tasks = await ask_all(router, 5)
        await until(lambda: queued.waiting == 3)
        assert router.chat.queued == 2
        queued.release.set()
        assert {reply.status for reply in await asyncio.gather(*tasks)} == {200}
        assert queued.most == 3


async def test_requests_that_wait_go_at_once_when_their_engine_says_that_it_takes_more() -> None:
    async with backends.running() as (engine,), routing() as router:
        engine.always = queued = Held()
        router.engines(engine)
        tasks = await ask_all(router, DEFAULT_CONCURRENCY + 2)
        await until(lambda: queued.waiting == DEFAULT_CONCURRENCY)
        assert router.chat.queued == 2
        engine.metrics += f"{contract.SEQUENCES} 1024.0\n"
        await until(lambda: queued.waiting == DEFAULT_CONCURRENCY + 2)
        queued.release.set()
        assert {reply.status for reply in await asyncio.gather(*tasks)} == {200}


class Usage:
    """Return a behavior, and the most requests that it had at once."""

    def __init__(self, behave: backends.Behavior) -> None:
        self.most = 0
        self._now = 0
        self._behave = behave

    async def __call__(self, peer: Peer, received: Received) -> None:
        self._now += 1
        self.most = max(self.most, self._now)
        try:
            await self._behave(peer, received)
        finally:
            self._now -= 1


async def test_requests_are_renewed_while_they_are_held_and_no_longer() -> None:
    async with backends.running() as (engine,), routing() as router:
        router.router._activator._period = 0.02
        asking = asyncio.create_task(router.ask())
        await until(lambda: len(router.renewed) >= 3)
        router.engines(engine)
        assert (await asking).status == 200
        await until(lambda: not router.router._activator._tasks)


async def test_a_service_that_never_sleeps_wakes_nobody() -> None:
    async with (
        backends.running() as (engine,),
        routing(services=[service(activation=None)]) as router,
    ):
        asking = asyncio.create_task(router.ask())
        await until(lambda: router.chat.queued == 1)
        router.engines(engine)
        assert (await asking).status == 200
        assert router.renewed == []


async def test_a_held_request_ends_with_503_when_no_engine_comes() -> None:
    async with routing(limits={"hold": 0.05}) as router:
        reply = await router.ask()
        assert reply.status == 503
        assert int(reply.headers["retry-after"]) > 0
        assert reply.error["type"] == "ServiceUnavailableError"
        assert await router.metric("slipstream_router_refused_requests_total", reason="hold") == 1


async def test_a_stopped_service_refuses_at_once_what_no_engine_will_answer() -> None:
    stopped = service(activation=None, stopped=True)
    async with (
        backends.running() as (engine,),
        routing(services=[service(activation=None)]) as router,
    ):
        held = asyncio.create_task(router.ask())
        await until(lambda: router.chat.queued == 1)
        router.configure(stopped)
        for reply in (await held, await router.ask()):
            assert reply.status == 503
            assert "spec.replicas is 0" in reply.error["message"]
            assert int(reply.headers["retry-after"]) > 0
        router.engines(engine)  # as one that has not ended yet
        assert (await router.ask()).status == 200
        router.engines()
        router.configure(service(activation=None))
        held = asyncio.create_task(router.ask())
        await until(lambda: router.chat.queued == 1)
        router.engines(engine)
        assert (await held).status == 200


async def test_a_full_queue_is_429() -> None:
    async with backends.running() as (engine,), routing(limits={"queue": 2}) as router:
        tasks = await ask_all(router, 2)
        reply = await router.ask()
        assert reply.status == 429
        assert reply.headers["retry-after"] == "1"
        router.engines(engine)
        assert {reply.status for reply in await asyncio.gather(*tasks)} == {200}


async def test_the_bytes_that_wait_are_bounded() -> None:
    async with backends.running() as (engine,), routing(limits={"queueSize": 4000}) as router:
        tasks = await ask_all(router, 1, padding="x" * 3000)
        assert (await router.ask(padding="x" * 3000)).status == 429
        router.engines(engine)
        assert {reply.status for reply in await asyncio.gather(*tasks)} == {200}


async def test_an_engine_that_leaves_while_requests_wait_gets_none_of_them() -> None:
    async with backends.running(2) as (first, second), routing(first, limits=BUSY) as router:
        first.always = queued = Held()
        running = await ask_all(router, 4)
        waiting = await ask_all_more(router, 3)
        router.engines()
        queued.release.set()
        assert {reply.status for reply in await asyncio.gather(*running)} == {200}
        assert router.chat.queued == 3
        await until(lambda: router.renewed == ["chat-activation"])
        router.engines(second)
        assert {reply.status for reply in await asyncio.gather(*waiting)} == {200}
        assert [len(first.received), len(second.received)] == [4, 3]


async def ask_all_more(router: Running, count: int) -> list["asyncio.Task[Any]"]:
    before = router.router.front.in_flight
    tasks = [asyncio.create_task(router.ask()) for _ in range(count)]
    await until(lambda: router.router.front.in_flight == before + count)
    return tasks


async def test_readiness_that_flaps_loses_no_request() -> None:
    async with backends.running() as (engine,), routing(engine, limits=BUSY) as router:

        def arrived(more_than: int) -> bool:
            return len(engine.received) + int(router.chat.queued) > more_than

        tasks = []
        for turn in range(30):
            tasks += [asyncio.create_task(router.ask()) for _ in range(3)]
            await until(functools.partial(arrived, turn))
            router.engines(*([engine] if turn % 2 else []))
        router.engines(engine)
        assert {reply.status for reply in await asyncio.gather(*tasks)} == {200}
        assert len(engine.received) == 90


async def test_an_engine_killed_as_the_only_one_loses_no_request_that_had_no_byte() -> None:
    async with backends.running(2) as (old, new), routing(old) as router:
        old.always = queued = Held(then=backends.die)
        tasks = await ask_all(router, 10)
        await until(lambda: queued.waiting == 10)
        queued.release.set()
        await until(lambda: router.chat.queued == 10)
        router.engines()
        await until(lambda: router.renewed == ["chat-activation"])
        router.engines(new)
        assert {reply.status for reply in await asyncio.gather(*tasks)} == {200}


async def test_a_client_that_leaves_the_queue_makes_room() -> None:
    async with backends.running() as (engine,), routing(limits={"queue": 1}) as router:
        [leaving] = await ask_all(router, 1)
        leaving.cancel()
        await until(lambda: router.chat.queued == 0)
        [staying] = await ask_all(router, 1)
        router.engines(engine)
        assert (await staying).status == 200
        assert len(engine.received) == 1
        name = "slipstream_router_cancelled_requests_total"
        assert await router.metric(name, phase="waiting") == 1


async def test_arrivals_and_held_requests_are_exported() -> None:
    async with backends.running() as (engine,), routing() as router:
        tasks = await ask_all(router, 3)
        assert await router.metric(contract.ROUTER_REQUESTS, service="chat") == 3
        assert await router.metric(contract.ROUTER_QUEUED, service="chat") == 3
        assert await router.metric(contract.ROUTER_IN_FLIGHT, service="chat") == 3
        router.engines(engine)
        await asyncio.gather(*tasks)


async def test_requests_go_to_revisions_by_their_weights() -> None:
    revisions = [
        {"name": "chat-1", "weight": 90},
        {"name": "chat-2", "weight": 10},
        {"name": "chat-3", "weight": 0},
    ]
    services = [service(revisions=revisions, strategy="LeastLoad")]
    async with (
        backends.running(3) as engines,
        routing(services=services) as router,
    ):
        found = {f"chat-{n + 1}": [engines[n]] for n in range(3)}
        router.place(found)
        for _ in range(30):
            assert (await router.ask()).status == 200
        old, new, none = (len(engine.received) for engine in engines)
        assert abs(new - 3) <= 1
        assert (old + new, none) == (30, 0)


async def test_a_request_for_n_answers_takes_n_slots_of_the_engine() -> None:
    async with backends.running() as (engine,), routing(engine, limits=BUSY) as router:
        engine.always = held = Held()
        many = await ask_all(router, 1, n=3)
        await until(lambda: held.waiting == 1)
        tasks = [*many, asyncio.create_task(router.ask(n=2)), asyncio.create_task(router.ask())]
        await until(lambda: router.chat.queued == 2)
        assert held.waiting == 1
        held.release.set()
        assert {reply.status for reply in await asyncio.gather(*tasks)} == {200}
        assert [received.content.get("n") for received in engine.received] == [3, 2, None]
        assert next(iter(router.chat.pool)).in_flight == 0
