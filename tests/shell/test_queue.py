"""Queue: each key is queued once, has one worker, and is retried after errors."""

import asyncio

import pytest

from slipstream_operator.core.observed import Key
from slipstream_operator.shell.queue import Queue

A, B, C = (Key("team", name) for name in "abc")


def _queue() -> Queue:
    return Queue(jitter=lambda: 0.5)  # the middle: no jitter


def _time() -> float:
    return asyncio.get_running_loop().time()


async def test_keys_are_returned_in_the_order_in_which_they_were_added() -> None:
    queue = _queue()
    queue.add_all([A, B, C])
    assert [await queue.get() for _ in range(3)] == [A, B, C]


async def test_other_tasks_run_before_each_key() -> None:
    queue = _queue()
    queue.add_all([A, B])
    for _ in range(2):
        other = asyncio.create_task(asyncio.sleep(0))
        await asyncio.sleep(0)
        await queue.get()
        assert other.done()


async def test_a_key_is_queued_only_once() -> None:
    queue = _queue()
    queue.add_all([A, B, A, A])
    assert len(queue) == 2


async def test_a_key_has_one_worker_at_a_time() -> None:
    queue = _queue()
    queue.add(A)
    await queue.get()
    queue.add_all([A, B])
    assert await queue.get() == B
    assert len(queue) == 0


async def test_events_during_a_reconcile_queue_the_key_once_more() -> None:
    queue = _queue()
    queue.add(A)
    await queue.get()
    queue.add_all([A, A, A])
    queue.done(A)
    assert await queue.get() == A
    queue.done(A)
    assert len(queue) == 0


async def test_a_waiting_worker_is_woken() -> None:
    queue = _queue()
    waiting = [asyncio.create_task(queue.get()) for _ in range(2)]
    await asyncio.sleep(0)
    queue.add(A)
    await asyncio.sleep(0)
    queue.add(B)
    assert await asyncio.gather(*waiting) == [A, B]


async def test_a_delayed_key_is_queued_after_its_delay() -> None:
    queue = _queue()
    queue.add_later(A, 60.0)
    assert len(queue) == 0
    assert await queue.get() == A
    assert _time() == pytest.approx(60.0, abs=0.1)


@pytest.mark.parametrize(("first", "second"), [(60.0, 5.0), (5.0, 60.0)])
async def test_of_two_delays_the_shorter_counts(first: float, second: float) -> None:
    queue = _queue()
    queue.add_later(A, first)
    queue.add_later(A, second)
    assert await queue.get() == A
    assert _time() == pytest.approx(5.0, abs=0.1)
    queue.done(A)
    await asyncio.sleep(100.0)
    assert len(queue) == 0


async def test_an_event_before_the_delay_replaces_it() -> None:
    queue = _queue()
    queue.add_later(A, 60.0)
    queue.add(A)
    assert await queue.get() == A
    queue.done(A)
    await asyncio.sleep(100.0)
    assert len(queue) == 0


async def test_delays_double_up_to_a_minute() -> None:
    queue = _queue()
    delays = [queue.retry(A) for _ in range(11)]
    assert delays == [0.25, 0.5, 1, 2, 4, 8, 16, 32, 60, 60, 60]


async def test_a_success_forgets_the_failures_of_this_key_alone() -> None:
    queue = _queue()
    for key in (A, A, B):
        queue.retry(key)
    queue.succeeded(A)
    assert (queue.retry(A), queue.retry(B)) == (0.25, 0.5)


@pytest.mark.parametrize(("drawn", "expected"), [(0.0, 0.2), (1.0, 0.3)])
async def test_jitter_spreads_delays_by_a_fifth(drawn: float, expected: float) -> None:
    assert Queue(jitter=lambda: drawn).retry(A) == pytest.approx(expected)


async def test_a_retry_comes_back_after_its_delay() -> None:
    queue = _queue()
    queue.retry(A)
    assert await queue.get() == A
    assert _time() == pytest.approx(0.25, abs=0.1)


async def test_days_of_failures_do_not_overflow_the_delay() -> None:
    queue = _queue()
    assert [queue.retry(A) for _ in range(1100)][-1] == 60.0
