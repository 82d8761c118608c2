"""Workers: many events cause few reconciles, errors are retried, and a stop ends all workers."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from slipstream_operator import errors
from slipstream_operator.core.observed import Key
from slipstream_operator.shell import workers
from slipstream_operator.shell.queue import Queue
from tests.support import fakes

A, B = Key("team", "a"), Key("team", "b")


class Reconciler:
    """Takes a second for a reconcile, and counts concurrent ones."""

    def __init__(self, answer: Callable[[int], float | None] = lambda _: None) -> None:
        self.reconciles: list[tuple[Key, float]] = []
        self.busiest: dict[Key, int] = {}
        self._busy: dict[Key, int] = {}
        self._answer = answer

    async def reconcile(self, key: Key) -> float | None:
        self.reconciles.append((key, asyncio.get_running_loop().time()))
        self._busy[key] = self._busy.get(key, 0) + 1
        self.busiest[key] = max(self.busiest.get(key, 0), self._busy[key])
        try:
            await asyncio.sleep(1.0)
            return self._answer(len(self.reconciles))
        finally:
            self._busy[key] -= 1


@asynccontextmanager
async def _working(
    queue: Queue, reconciler: Any, *, count: int = 2
) -> AsyncIterator["asyncio.Task[None]"]:
    task = asyncio.create_task(
        workers.work(queue=queue, dispatcher=reconciler, telemetry=fakes.telemetry(), workers=count)
    )
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def _queue() -> Queue:
    return Queue(jitter=lambda: 0.5)


def _fails_first(error: Exception) -> Callable[[int], float | None]:
    def answer(look: int) -> float | None:
        if look == 1:
            raise error
        return None

    return answer


async def test_a_thousand_events_are_few_reconciles() -> None:
    queue, reconciler = _queue(), Reconciler()
    async with _working(queue, reconciler, count=8):
        for _ in range(1000):
            queue.add(A)
            await asyncio.sleep(0.002)
        await asyncio.sleep(10.0)
    assert len(reconciler.reconciles) <= 4
    assert reconciler.reconciles[-1][1] >= 1.9  # one reconcile started after the last event


async def test_a_key_is_reconciled_by_one_worker_at_a_time() -> None:
    queue, reconciler = _queue(), Reconciler()
    async with _working(queue, reconciler, count=8):
        for _ in range(20):
            queue.add_all([A, B])
            await asyncio.sleep(0.3)
    assert reconciler.busiest == {A: 1, B: 1}


async def test_keys_do_not_wait_for_each_other() -> None:
    queue, reconciler = _queue(), Reconciler()
    async with _working(queue, reconciler):
        queue.add_all([A, B])
        await asyncio.sleep(0.5)
    assert [key for key, _ in reconciler.reconciles] == [A, B]


@pytest.mark.parametrize("error", [errors.Unavailable("down"), RuntimeError("a bug")])
async def test_a_key_is_retried_after_an_error(error: Exception) -> None:
    queue, reconciler = _queue(), Reconciler(_fails_first(error))
    async with _working(queue, reconciler):
        queue.add(A)
        await asyncio.sleep(60.0)
    assert [at for _, at in reconciler.reconciles] == pytest.approx([0.0, 1.25], abs=0.1)


async def test_a_reconcile_can_request_the_next_one() -> None:
    queue, reconciler = _queue(), Reconciler(lambda number: 5.0 if number == 1 else None)
    async with _working(queue, reconciler):
        queue.add(A)
        await asyncio.sleep(60.0)
    assert [at for _, at in reconciler.reconciles] == pytest.approx([0.0, 6.0], abs=0.1)


async def test_a_stop_ends_all_workers_at_once() -> None:
    queue, reconciler = _queue(), Reconciler()
    async with _working(queue, reconciler) as task:
        queue.add_all([A, B])
        await asyncio.sleep(0.5)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        assert asyncio.get_running_loop().time() == pytest.approx(0.5, abs=0.1)
