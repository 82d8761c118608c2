"""Continuous batching: one thread runs batches, each from the sequences that wait when the thread becomes free.

It neither polls nor waits for a batch to fill up. All methods belong to one event loop.
"""

import asyncio
import dataclasses
import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Protocol

from slipstream_runtime.errors import EngineError, describe
from slipstream_runtime.onnx import batching
from slipstream_runtime.onnx.pooling import Floats
from slipstream_runtime.onnx.tokens import Tokens
from slipstream_runtime.recording.times import Times
from slipstream_runtime.recording.visits import CURRENT, Visit

Run = Callable[[Sequence[Tokens]], Floats]
"""Blocking function from a batch to one row for each sequence."""


class Observer(Protocol):
    """Observer that is called at the start of each batch."""

    def batch(self, *, tokens: int) -> None:
        """Record a batch with this number of tokens, without padding."""


@dataclasses.dataclass(eq=False)
class _Entry:
    tokens: Tokens
    row: "asyncio.Future[Floats]"
    began: float = math.nan
    """Time at which its batch started."""
    batch: int = 0
    """Sequences of its batch."""


class _Reading:
    """Sequences of one request, for its record."""

    def __init__(self, visit: Visit, entries: Sequence[_Entry], *, now: float) -> None:
        self._visit = visit
        self._entries = entries
        self._queued = now
        self._done: float | None = None

    def done(self, now: float) -> None:
        """Note that all rows are computed."""
        self._done = self._visit.first = now

    def close(self) -> Times:
        """Return the seconds of waiting for the first batch, and from then on; the request has ended."""
        times = Times(sum(len(entry.tokens) for entry in self._entries))
        if self._done is not None and self._entries:
            began = min(entry.began for entry in self._entries)
            times.queue, times.prefill = began - self._queued, self._done - began
            times.scheduled, times.first, times.ended = began, self._done, self._done
            times.batch = sum(entry.batch for entry in self._entries) / len(self._entries)
        return times


class Batcher:
    """Batcher from sequences to rows. `proof` is a sequence that a working session can always run."""

    def __init__(
        self, run: Run, *, limits: batching.BatchLimits, proof: Tokens, observer: Observer
    ) -> None:
        self._run = run
        self._limits = limits
        self._proof = proof
        self._observer = observer
        self._waiting: dict[object, dict[_Entry, None]] = {}
        """Request -> its sequences that are in no batch yet; the first request has the next turn."""
        self._running = 0
        self._wake = asyncio.Event()

    @property
    def waiting(self) -> int:
        """Number of sequences that are in no batch yet."""
        return sum(map(len, self._waiting.values()))

    @property
    def running(self) -> int:
        """Number of sequences in the present batch."""
        return self._running

    async def rows(self, sequences: Sequence[Tokens]) -> list[Floats]:
        """Return the rows of these sequences; on cancellation, sequences that are in no batch yet are removed."""
        loop = asyncio.get_running_loop()
        entries = [_Entry(tokens, loop.create_future()) for tokens in sequences]
        request = object()
        reading = None
        if (visit := CURRENT.get()) is not None:
            reading = _Reading(visit, entries, now=time.monotonic())
            visit.sequences.append(reading)
        self._waiting[request] = dict.fromkeys(entries)
        self._wake.set()
        try:
            rows = await asyncio.gather(*(entry.row for entry in entries))
            if reading is not None:
                reading.done(time.monotonic())
            return rows
        finally:
            self._waiting.pop(request, None)

    async def serve(self) -> None:
        """Run batches until cancelled, then wait for the running one; EngineError once the session is broken."""
        with ThreadPoolExecutor(1, thread_name_prefix="session") as thread:
            while True:
                await self._wake.wait()
                batch = self._next()
                if batch:
                    await self._serve(batch, thread)
                else:
                    self._wake.clear()

    def _next(self) -> list[_Entry]:
        """Take the next batch; requests take turns, so that a long one does not hold up the others."""
        turns = list(itertools.islice(self._in_turn(), batching.window(self._limits)))
        lengths = [len(entry.tokens) for _, entry in turns]
        chosen = [turns[index] for index in batching.choose(lengths, limits=self._limits)]
        for request, entry in chosen:
            del self._waiting[request][entry]
        for request in dict.fromkeys(request for request, _ in chosen):
            rest = self._waiting.pop(request)
            if rest:
                self._waiting[request] = rest
        return [entry for _, entry in chosen]

    def _in_turn(self) -> Iterator[tuple[object, _Entry]]:
        """Yield the first sequence of each request, then the second of each, and so on."""
        left = [(request, iter(entries)) for request, entries in self._waiting.items()]
        while left:
            still = []
            for request, entries in left:
                if (entry := next(entries, None)) is not None:
                    yield request, entry
                    still.append((request, entries))
            left = still

    async def _serve(self, batch: list[_Entry], thread: Executor) -> None:
        loop = asyncio.get_running_loop()
        sequences = [entry.tokens for entry in batch]
        self._running = len(batch)
        now = time.monotonic()
        for entry in batch:
            entry.began, entry.batch = now, len(batch)
        self._observer.batch(tokens=sum(map(len, sequences)))
        try:
            rows = await loop.run_in_executor(thread, self._run, sequences)
        except Exception as error:
            for entry in batch:
                if not entry.row.done():
                    entry.row.set_exception(error)
            await self._prove(error, thread)
        else:
            for entry, row in zip(batch, rows, strict=True):
                if not entry.row.done():
                    entry.row.set_result(row)
        finally:
            self._running = 0

    async def _prove(self, error: Exception, thread: Executor) -> None:
        """Raise EngineError if the session is broken; after a batch that ran out of memory it is not."""
        try:
            await asyncio.get_running_loop().run_in_executor(thread, self._run, [self._proof])
        except Exception:
            raise EngineError(f"the session is broken: {describe(error)}") from error
