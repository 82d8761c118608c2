"""The router records where the time of each request went."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from slipstream_runtime import contract
from slipstream_runtime.recording.recorder import Outcome, Recorder
from slipstream_runtime.router.recording.flight import CAUSES, FORM
from slipstream_runtime.web import openai
from tests.router.test_one_client_against_others import long_stream, unread
from tests.support import backends
from tests.support.backends import Peer, Received
from tests.support.routers import Running, routing, until

LEAP = 50.0
"""Seconds by which the clock leaps, more than any real wait in these tests."""


class Clock:
    """Real clock that can leap."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead


async def _queued(router: Running, engine: backends.Backend, leap: Callable[[], None]) -> None:
    engine.script = [held := backends.Held()]
    first = asyncio.ensure_future(router.ask())
    await until(lambda: held.waiting == 1)
    second = asyncio.ensure_future(router.ask())
    await until(lambda: router.chat.queued == 1)
    leap()
    held.release.set()
    await first
    await second


async def _asleep(router: Running, engine: backends.Backend, leap: Callable[[], None]) -> None:
    router.engines()
    asking = asyncio.ensure_future(router.ask())
    await until(lambda: router.chat.queued == 1)
    leap()
    router.engines(engine)
    await asking


async def _retried(router: Running, engine: backends.Backend, leap: Callable[[], None]) -> None:
    engine.script = [held := backends.Held(then=backends.die)]
    asking = asyncio.ensure_future(router.ask())
    await until(lambda: held.waiting == 1)
    leap()
    held.release.set()
    await asking


async def _computed(router: Running, engine: backends.Backend, leap: Callable[[], None]) -> None:
    engine.script = [held := backends.Held()]
    asking = asyncio.ensure_future(router.ask(stream=True))
    await until(lambda: held.waiting == 1)
    leap()
    held.release.set()
    await asking


async def _streamed(router: Running, engine: backends.Backend, leap: Callable[[], None]) -> None:
    engine.script = [held := backends.Held(begun=2)]
    url = f"http://127.0.0.1:{router.port}{openai.CHAT}"
    async with router.http.post(url, json={"model": "m", "stream": True}) as response:
        await response.content.readany()
        leap()
        held.release.set()
        await response.read()
    await until(router.settled)


@pytest.mark.parametrize(
    ("cause", "happens"),
    [
        ("queue", _queued),
        ("wake", _asleep),
        ("retry", _retried),
        ("first", _computed),
        ("stream", _streamed),
    ],
)
async def test_the_time_of_a_request_is_attributed_to_its_cause(
    cause: str, happens: Callable[..., asyncio.Future[None]]
) -> None:
    clock = Clock()
    async with _running(clock) as (router, engine):

        def leap() -> None:
            clock.ahead += LEAP

        await happens(router, engine, leap)
        newest = (await router.records(service="chat"))[0]
        assert newest["status"] == 200
        assert newest["outcome"] == "answered"
        assert LEAP <= newest["seconds"].pop(cause) < 1.5 * LEAP
        assert max(newest["seconds"].values()) < LEAP / 10
        total = await router.metric(contract.ROUTER_TIME, service="chat", cause=cause)
        assert total >= LEAP


@asynccontextmanager
async def _running(clock: Clock) -> AsyncIterator[tuple[Running, backends.Backend]]:
    limits = {"concurrency": 1, "hold": 100 * LEAP, "headTimeout": 100 * LEAP}
    async with (
        backends.running() as (engine,),
        routing(engine, limits=limits, clock=clock) as router,
    ):
        yield router, engine


async def test_the_time_that_a_client_does_not_read_is_the_client_s() -> None:
    async def behave(peer: Peer, received: Received) -> None:
        await long_stream(peer, received, size=64 * 1024 * 1024)

    async with backends.running() as (engine,), routing(engine, slow_seconds=0.2) as router:
        engine.always = behave
        async with unread(router):
            await until(lambda: len(router.router.recorder) == 1)
        [record] = await router.records()
        assert record["outcome"] == "cancelled"
        assert record["seconds"]["client"] > 0.1


async def test_a_request_is_found_by_its_id_and_the_record_has_no_contents() -> None:
    async with backends.running() as (engine,), routing(engine) as router:
        await router.ask(headers={"x-request-id": "mine-1"})
        await router.ask()
        assert engine.received[0].headers["x-request-id"] == "mine-1"
        assert engine.received[1].headers["x-request-id"] not in ("", "mine-1")
        assert len(await router.records()) == 2
        [found] = await router.records(request="mine-1")
        assert (found["promptTokens"], found["outputTokens"]) == (7, 3)
        assert "mine-1" not in str(found)
        assert set(found) == {
            "request", "arrived", "service", "replica", "status", "outcome", "streamed", "retries",
            "seconds", "promptTokens", "outputTokens",
        }  # fmt: skip


async def test_odd_questions_for_records_are_refused() -> None:
    async with routing() as router:
        url = f"http://127.0.0.1:{router.management}{contract.RECORDS_PATH}"
        for query in ("since=yesterday", "most=many"):
            async with router.http.get(f"{url}?{query}") as response:
                assert response.status == 400
        assert await router.records(most="-1") == []


def _add(recorder: Recorder, number: int) -> None:
    recorder.add(
        f"request-{number}",
        (0.1,) * len(CAUSES),
        took=0.1 * len(CAUSES),
        service="chat",
        replica="",
        status=200,
        outcome=Outcome.ANSWERED,
        prompt=number,
        output=2**40,
    )


def test_the_oldest_record_gives_way_and_the_memory_is_bounded() -> None:
    recorder = Recorder(FORM, now=lambda: 1_000.0, most=10)
    for number in range(25):
        _add(recorder, number)
    found = [*recorder.read()]
    assert [record["promptTokens"] for record in found] == [*range(24, 14, -1)]
    assert found[0]["arrived"] == pytest.approx(1_000.0 - 0.1 * len(CAUSES))
    assert len(recorder) == 10
    assert [*recorder.read(since=1_001.0)] == []
    assert [record["promptTokens"] for record in recorder.read(request="request-20")] == [20]
