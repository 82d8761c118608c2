"""Engine model in real time: the results of an iteration are delivered when it ends by the clock.

An iteration starts at the planned end of the previous one, not when its timer fired, so that delays of timers do not
add up.
"""

import asyncio
import itertools
from collections.abc import Hashable
from typing import Final

from slipstream_runtime.simulator import metrics, model

LAG_LIMIT: Final = 1.0
"""Seconds of delay, as in a process without CPU time, after which the engine no longer catches up."""


class Stream:
    """Request in the engine, with the number of its tokens and a wait for more."""

    def __init__(self, request: model.Request, *, reason: str) -> None:
        self.request = request
        self.reason = reason
        self.tokens = 0
        self.aborted = False
        self.admitted: float | None = None
        self.first = self.last = request.arrival
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

    def wake(self) -> None:
        """Wake the waiter after a change."""
        self._changed.set()


class Pace:
    """Driver of one engine; only `run` takes steps."""

    def __init__(self, engine: model.Engine, *, observer: metrics.Metrics) -> None:
        self.lag = 0.0
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

    def add(self, *, prompt: int, output: int, reason: str) -> Stream:
        """Add a request to the engine; ValueError if it can never fit."""
        now = asyncio.get_running_loop().time()
        request = model.Request(next(self._keys), now, prompt, output)
        self._engine.add(request)
        stream = self._streams[request.key] = Stream(request, reason=reason)
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
            self._start(step, now=end)
            end += step.duration
            await asyncio.sleep(max(0.0, end - loop.time()))
            now = loop.time()
            self.lag = now - end
            if self.lag > LAG_LIMIT:
                end = now
            self._deliver(step, now=now)

    def _start(self, step: model.Step, *, now: float) -> None:
        for request in step.preempted:
            self._batch.discard(request.key)
            self._decoding.pop(request.key, None)
        for request in step.admitted:
            self._batch.add(request.key)
            stream = self._streams[request.key]
            if stream.admitted is None:
                stream.admitted = max(now, request.arrival)

    def _deliver(self, step: model.Step, *, now: float) -> None:
        self._metrics.step(step)
        for stream in self._decoding.values():
            self._metrics.later_token(now - stream.last)
            self._give(stream, now=now)
        for request in (*step.first, *step.resumed):
            found = self._streams.get(request.key)
            if found is None:
                continue
            if found.tokens:
                self._metrics.later_token(now - found.last)
            else:
                found.first = now
                self._metrics.first_token(now - request.arrival)
            self._decoding[request.key] = found
            self._give(found, now=now)
        for request in step.finished:
            if done := self._streams.get(request.key):
                self._finish(done)

    def _give(self, stream: Stream, *, now: float) -> None:
        stream.tokens += 1
        stream.last = now
        stream.wake()

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
