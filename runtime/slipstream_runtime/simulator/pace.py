"""Engine model in real time: the results of an iteration are delivered when it ends by the clock.

An iteration starts at the planned end of the previous one, not when its timer fired, so that delays of timers do not
add up.
"""

import asyncio
import itertools
from collections.abc import Hashable
from typing import Final

from slipstream_runtime.recording.steps import Steps
from slipstream_runtime.recording.times import Times
from slipstream_runtime.recording.visits import CURRENT
from slipstream_runtime.simulator import metrics, model

LAG_LIMIT: Final = 1.0
"""Seconds of delay, as in a process without CPU time, after which the engine no longer catches up."""


class Stream:
    """Request in the engine, with the number of its tokens and a wait for more."""

    def __init__(self, request: model.Request, *, reason: str, steps: Steps) -> None:
        self.request = request
        self.reason = reason
        self.tokens = 0
        self.aborted = False
        self.admitted: float | None = None
        self.first = self.last = request.arrival
        self.times = Times(request.prompt)
        self.visit = CURRENT.get()
        if self.visit is not None:
            self.visit.sequences.append(self)
        self._lost: float | None = None
        """Time of the preemption after which it has no token yet."""
        self._starts: list[tuple[float, float]] = []
        """Preemptions before the first token, each with the next start."""
        self._steps = steps
        self._changed = asyncio.Event()

    @property
    def finished(self) -> bool:
        """Whether all its tokens have been generated."""
        return self.tokens == self.request.output

    async def more(self, *, than: int) -> int:
        """Wait for more tokens than `than`, or for the end; return the number of tokens."""
        while self.tokens <= than and not self.finished and not self.aborted:
            self._changed.clear()
            await self._changed.wait()
        return self.tokens

    async def end(self) -> None:
        """Wait until it is finished or aborted."""
        while not self.finished and not self.aborted:
            await self.more(than=self.tokens)

    def preempt(self, now: float) -> None:
        """Note that it lost its KV cache."""
        if self._lost is None:
            self._lost = now

    def start(self, now: float) -> None:
        """Note that it is in the batch, for the first time or again."""
        if self.admitted is None:
            self.admitted = max(now, self.request.arrival)
        elif self._lost is not None and not self.tokens:
            self._starts.append((self._lost, now))
            self._lost = None

    def give(self, now: float) -> None:
        """Add a token, after the step that computed it was added to the steps."""
        if not self.tokens:
            self._begin(now)
        elif self._lost is not None:
            self.times.lose(self._steps, start=self._lost, end=now)
            self._lost = None
        self.tokens += 1
        self.last = now
        self.wake()

    def close(self) -> Times:
        """Return its times; the request has ended."""
        self.times.end(self._steps, last=self.last, output=self.tokens)
        return self.times

    def _begin(self, now: float) -> None:
        assert self.admitted is not None
        self.first = now
        request = self.request
        self.times.begin(
            self._steps,
            queued=request.arrival,
            scheduled=self.admitted,
            first=now,
            computed=request.prompt - request.cached,
            cached=request.cached,
            lost=self._starts,
        )
        if self.visit is not None:
            self.visit.first = now

    def wake(self) -> None:
        """Wake the waiter after a change."""
        self._changed.set()


class Pace:
    """Driver of one engine; only `run` takes steps."""

    def __init__(self, engine: model.Engine, *, observer: metrics.Metrics) -> None:
        self.lag = 0.0
        self.steps = Steps(sequences=engine.parameters.max_sequences)
        self._engine = engine
        self._metrics = observer
        self._keys = itertools.count()
        self._streams: dict[Hashable, Stream] = {}
        self._batch: set[Hashable] = set()
        self._decoding: dict[Hashable, Stream] = {}
        self._wake = asyncio.Event()

    @property
    def running(self) -> int:
        """Number of requests in the batch."""
        return len(self._batch)

    @property
    def waiting(self) -> int:
        """Number of requests that are not in the batch."""
        return len(self._streams) - len(self._batch)

    def add(self, *, prompt: int, output: int, reason: str, cached: int = 0) -> Stream:
        """Add a request to the engine; ValueError if it can never fit."""
        now = asyncio.get_running_loop().time()
        request = model.Request(next(self._keys), now, prompt, output, cached)
        self._engine.add(request)
        stream = self._streams[request.key] = Stream(request, reason=reason, steps=self.steps)
        self._wake.set()
        return stream

    def cancel(self, stream: Stream) -> None:
        """Remove a request, finished or not."""
        key = stream.request.key
        self._engine.cancel(key)
        self._forget(key)

    def abort(self) -> None:
        """End all requests before they have all their tokens."""
        for stream in list(self._streams.values()):
            self.cancel(stream)
            stream.aborted = True
            stream.wake()

    async def run(self) -> None:
        """Take steps whenever there are requests; never returns."""
        loop = asyncio.get_running_loop()
        end = loop.time()
        while True:
            if self._engine.idle:
                self.lag = 0.0
                self._wake.clear()
                await self._wake.wait()
                end = loop.time()
            step = self._engine.step(end)
            began = end
            self._start(step, now=began)
            end += step.duration
            await asyncio.sleep(max(0.0, end - loop.time()))
            now = loop.time()
            self.lag = now - end
            if self.lag > LAG_LIMIT:
                end = now
            self._deliver(step, began=began, now=now)

    def _start(self, step: model.Step, *, now: float) -> None:
        for request in step.preempted:
            self._batch.discard(request.key)
            self._decoding.pop(request.key, None)
            self._streams[request.key].preempt(now)
        for request in step.admitted:
            self._batch.add(request.key)
            self._streams[request.key].start(now)

    def _deliver(self, step: model.Step, *, began: float, now: float) -> None:
        self._metrics.step(step)
        self.steps.add(
            began=began,
            ended=now,
            prompt=step.prefilled,
            decoded=step.decoded,
            sequences=step.running,
        )
        for stream in self._decoding.values():
            self._metrics.later_token(now - stream.last)
            stream.give(now)
        for request in (*step.first, *step.resumed):
            found = self._streams.get(request.key)
            if found is None:
                continue
            if found.tokens:
                self._metrics.later_token(now - found.last)
            else:
                self._metrics.first_token(now - request.arrival)
            self._decoding[request.key] = found
            found.give(now)
        for request in step.finished:
            if done := self._streams.get(request.key):
                self._finish(done)

    def _finish(self, stream: Stream) -> None:
        assert stream.admitted is not None
        self._forget(stream.request.key)
        self._metrics.finished(
            stream.request,
            reason=stream.reason,
            arrived=stream.request.arrival,
            admitted=stream.admitted,
            first=stream.first,
            last=stream.last,
        )

    def _forget(self, key: Hashable) -> None:
        self._streams.pop(key, None)
        self._batch.discard(key)
        self._decoding.pop(key, None)
