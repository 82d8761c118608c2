"""The batcher: a batch is made of what waits when the session is free, and who leaves is not run."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Sequence

import numpy as np
import pytest

from slipstream_runtime.errors import EngineError
from slipstream_runtime.onnx.batcher import Batcher
from slipstream_runtime.onnx.batching import BatchLimits
from slipstream_runtime.onnx.pooling import Floats
from slipstream_runtime.onnx.tokens import Tokens

BROKEN, PROOF = 666, 1


def sequence(token: int, length: int = 4) -> Tokens:
    return Tokens([token] * length, [0] * length)


class Model:
    """A row is a sequence's first token; a batch ends only when it may."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.entered = threading.Semaphore(0)
        self.may_end = threading.Semaphore(0)
        self.dead = False

    def run(self, batch: Sequence[Tokens]) -> Floats:
        tokens = [tokens.ids[0] for tokens in batch]
        self.batches.append(tokens)
        self.entered.release()
        assert self.may_end.acquire(timeout=10)
        if self.dead or BROKEN in tokens:
            raise MemoryError("no memory")
        return np.array([[token] for token in tokens], np.float32)

    async def busy(self) -> None:
        assert await asyncio.to_thread(self.entered.acquire, timeout=10)


class Counted:
    def __init__(self) -> None:
        self.tokens: list[int] = []

    def batch(self, *, tokens: int) -> None:
        self.tokens.append(tokens)


@contextlib.asynccontextmanager
async def served(
    model: Model, observer: Counted | None = None
) -> AsyncIterator[tuple[Batcher, "asyncio.Task[None]"]]:
    batcher = Batcher(
        model.run,
        limits=BatchLimits(sequences=8, tokens=1000),
        proof=sequence(PROOF),
        observer=observer or Counted(),
    )
    work = asyncio.create_task(batcher.serve())
    try:
        yield batcher, work
    finally:
        model.may_end.release(100)
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


def submit(batcher: Batcher, *tokens: int) -> "asyncio.Task[list[Floats]]":
    return asyncio.create_task(batcher.rows([sequence(token) for token in tokens]))


async def test_what_came_during_a_batch_runs_together_in_the_next() -> None:
    model = Model()
    observer = Counted()
    async with served(model, observer) as (batcher, _):
        first = submit(batcher, 10)
        await model.busy()
        others = [submit(batcher, token) for token in (11, 12, 13)]
        await asyncio.sleep(0)
        assert (batcher.running, batcher.waiting) == (1, 3)
        model.may_end.release(2)
        rows = await asyncio.gather(first, *others)
        assert model.batches == [[10], [11, 12, 13]]
        assert [float(row[0][0]) for row in rows] == [10, 11, 12, 13]
        assert (batcher.running, batcher.waiting) == (0, 0)
    assert observer.tokens == [4, 12]


async def test_the_rows_of_a_request_come_in_its_order_over_several_batches() -> None:
    model = Model()
    model.may_end.release(100)
    async with served(model) as (batcher, _):
        rows = await batcher.rows([sequence(token) for token in range(1, 21)])
    assert [float(row[0]) for row in rows] == list(range(1, 21))
    assert [len(batch) for batch in model.batches] == [8, 8, 4]


async def test_a_long_request_does_not_hold_up_a_short_one() -> None:
    model = Model()
    async with served(model) as (batcher, _):
        first = submit(batcher, 1)
        await model.busy()
        long = submit(batcher, *range(100, 200))
        await asyncio.sleep(0)
        short = submit(batcher, 2)
        await asyncio.sleep(0)
        model.may_end.release(2)
        assert [row[0] for row in await short] == [2]
        assert 2 in model.batches[1]
        assert not long.done()
        model.may_end.release(20)
        assert [row[0] for row in await long] == list(range(100, 200))
        await first
        assert batcher.waiting == 0


async def test_who_leaves_while_waiting_is_not_run() -> None:
    model = Model()
    async with served(model) as (batcher, _):
        first = submit(batcher, 10)
        await model.busy()
        leaving, staying = submit(batcher, 11, 12), submit(batcher, 13)
        await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        assert batcher.waiting == 1
        model.may_end.release(2)
        await asyncio.gather(first, staying)
    assert model.batches == [[10], [13]]


async def test_who_leaves_during_its_batch_disturbs_nobody() -> None:
    model = Model()
    async with served(model) as (batcher, work):
        leaving = submit(batcher, 10)
        await model.busy()
        leaving.cancel()
        model.may_end.release(2)
        (row,) = await submit(batcher, 11)
        assert row[0] == 11
        assert not work.done()


async def test_a_batch_that_fails_fails_its_requests_and_no_others() -> None:
    model = Model()
    async with served(model) as (batcher, work):
        first = submit(batcher, 10)
        await model.busy()
        broken, after = submit(batcher, BROKEN, 12), None
        await asyncio.sleep(0)
        model.may_end.release(1)
        await first
        await model.busy()
        after = submit(batcher, 13)
        model.may_end.release(100)
        with pytest.raises(MemoryError):
            await broken
        (row,) = await after
        assert row[0] == 13
        assert not work.done()
    assert model.batches == [[10], [BROKEN, 12], [PROOF], [13]]


async def test_a_session_that_can_run_nothing_any_more_ends_the_engine() -> None:
    model = Model()
    model.dead = True
    model.may_end.release(100)
    async with served(model) as (batcher, work):
        with pytest.raises(MemoryError):
            await batcher.rows([sequence(10)])
        with pytest.raises(EngineError, match="the session is broken: MemoryError: no memory"):
            await work
