"""A router counts what each of two revisions does with its requests, while both get some."""

import asyncio
import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from slipstream_runtime import contract
from tests.support import backends
from tests.support.backends import Backend, Behavior, Held, Peer, Received
from tests.support.routers import Running, routing, service, until

OLD, NEW = "chat-1", "chat-2"


def weighted(new: int, **more: object) -> dict[str, object]:
    revisions = [{"name": OLD, "weight": 100 - new}, {"name": NEW, "weight": new}]
    return service(revisions=revisions, strategy="LeastLoad", **more)


@asynccontextmanager
async def comparing(new: int = 50) -> AsyncIterator[tuple[Running, Backend, Backend]]:
    async with backends.running(2) as (old, other), routing(services=[weighted(new)]) as router:
        router.place({OLD: [old], NEW: [other]})
        yield router, old, other


async def count(router: Running, measure: str, revision: str = NEW, **labels: str) -> float:
    labels = {"statistic": contract.COUNT, **labels}
    name = contract.ROUTER_COMPARED
    return await router.metric(name, revision=revision, measure=measure, **labels)


async def ask(router: Running, times: int, **fields: object) -> list[int]:
    """Return the status codes of requests, one after the other."""
    # NB: a request that broke two engines is not sent to a third, so requests differ.
    asked = [{"max_tokens": number + 1, **fields} for number in range(times)]
    return [(await router.ask(**each)).status for each in asked]


async def test_streams_and_whole_answers_are_counted_with_their_latencies() -> None:
    async with comparing() as (router, old, new):
        assert await ask(router, 4, stream=True) == [200] * 4
        assert await ask(router, 4) == [200] * 4
        for revision, engine in ((OLD, old), (NEW, new)):
            got = len(engine.received)
            assert abs(got - 4) <= 1
            assert await count(router, contract.COMPARED_REQUESTS, revision) == got
            assert await count(router, contract.COMPARED_ERRORS, revision) == 0
            assert await count(router, contract.COMPARED_E2E, revision) == got
            assert await count(router, contract.COMPARED_OUTPUT, revision) == got
        streams = [await count(router, contract.COMPARED_TTFT, each) for each in (OLD, NEW)]
        assert sum(streams) == 4
        times = [await count(router, contract.COMPARED_TPOT, each) for each in (OLD, NEW)]
        assert times == streams
        total = await router.metric(
            contract.ROUTER_COMPARED, revision=NEW, measure="output", statistic="sum"
        )
        assert total == pytest.approx(len(new.received) * math.log(3))


async def test_engines_report_their_tokens_and_clients_that_did_not_ask_don_t_see_them() -> None:
    async with comparing() as (router, old, new):
        replies = [await router.ask(stream=True) for _ in range(4)]
        received = [*old.received, *new.received]
        assert all(each.content["stream_options"] == {"include_usage": True} for each in received)
        assert not any(b"usage" in reply.body for reply in replies)


async def test_a_retry_counts_as_an_error_of_the_revision_that_failed() -> None:
    async with comparing() as (router, _, new):
        new.always = backends.die
        assert await ask(router, 6) == [200] * 6
        assert await count(router, contract.COMPARED_ERRORS) == len(new.received) > 0
        assert await count(router, contract.COMPARED_REQUESTS) == len(new.received)
        assert await count(router, contract.COMPARED_REQUESTS, OLD) == 6
        assert await count(router, contract.COMPARED_ERRORS, OLD) == 0


async def _broken(peer: Peer, received: Received) -> None:
    await peer.stream()
    await peer.tokens(2)
    peer.reset()


@pytest.mark.parametrize(
    ("behavior", "errors"),
    [(backends.status(500), 1), (backends.status(400), 0), (_broken, 1)],
    ids=["500", "400", "broken"],
)
async def test_the_engine_s_failures_are_errors_and_the_client_s_are_not(
    behavior: Behavior, errors: int
) -> None:
    async with comparing() as (router, old, new):
        old.always = new.always = behavior
        await ask(router, 4, stream=True)
        got = len(new.received)
        assert got > 0
        assert await count(router, contract.COMPARED_REQUESTS) == got
        assert await count(router, contract.COMPARED_ERRORS) == got * errors
        assert await count(router, contract.COMPARED_E2E) == 0


async def test_a_client_that_leaves_is_counted_apart() -> None:
    async with comparing() as (router, old, new):
        old.always = new.always = held = Held()
        tasks = [asyncio.create_task(router.ask()) for _ in range(2)]
        await until(lambda: held.waiting == 2)
        for task in tasks:
            task.cancel()
        await until(lambda: held.abandoned == 2)
        await until(router.settled)
        assert await count(router, contract.COMPARED_CANCELLED) == 1
        assert await count(router, contract.COMPARED_ERRORS) == 0


def finishing(reason: str) -> Behavior:
    async def behave(peer: Peer, received: Received) -> None:
        choice = {"message": {"content": "0"}, "delta": {"content": "0"}, "finish_reason": reason}
        content = {"choices": [choice], "usage": backends.USAGE}
        if not received.streams:
            await peer.whole(content)
            return
        await peer.stream()
        await peer.tokens(3)
        await peer.event(content)
        await peer.done()

    return behave


@pytest.mark.parametrize("stream", [False, True])
async def test_finish_reasons_are_counted(stream: bool) -> None:
    async with comparing() as (router, old, new):
        old.always = new.always = finishing("length")
        await ask(router, 4, stream=stream)
        assert await count(router, contract.COMPARED_FINISHED + "length") == 2
        assert await count(router, contract.COMPARED_FINISHED + "stop") == 0


async def test_new_weights_begin_new_totals_and_old_requests_do_not_count_in_them() -> None:
    async with comparing() as (router, old, new):
        await ask(router, 4)
        old.always = new.always = held = Held()
        tasks = [asyncio.create_task(router.ask()) for _ in range(2)]
        await until(lambda: held.waiting == 2)
        router.configure(weighted(25))
        held.release.set()
        assert [reply.status for reply in await asyncio.gather(*tasks)] == [200, 200]
        assert await count(router, contract.COMPARED_REQUESTS) == 0
        before = len(new.received)
        await ask(router, 8)
        got = len(new.received) - before
        assert got > 0
        assert await count(router, contract.COMPARED_REQUESTS, weight="25") == got
        router.configure(weighted(25, limits={"queue": 7}))
        assert await count(router, contract.COMPARED_REQUESTS, weight="25") == got


@pytest.mark.parametrize("new", [0, 100])
async def test_one_revision_alone_is_not_counted(new: int) -> None:
    async with comparing(new) as (router, *_):
        await ask(router, 2, stream=True)
        assert contract.ROUTER_COMPARED not in _series(await router.router.metrics.render())


def _series(text: bytes) -> Sequence[str]:
    return [line.split("{")[0] for line in text.decode().splitlines() if line[:1] != "#"]
