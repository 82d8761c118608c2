"""Replay of recorded requests on a fleet of simulated engines behind a router with slots. Pure.

Engines are those of `slipstream_runtime.simulator.model`, and the router picks as the real one does.
"""

import heapq
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from slipstream_runtime.router.balancing import picking
from slipstream_runtime.router.balancing.picking import EndpointView
from slipstream_runtime.simulator import model

BLOCK_TOKENS: Final = 16
"""Tokens of a block of prompt, in which the router counts the cost of a replica."""


@dataclass(frozen=True, slots=True)
class Span:
    """Time in which a replica takes requests."""

    start: float
    end: float = math.inf


@dataclass(frozen=True, slots=True)
class Arrival:
    """Request at the router."""

    at: float
    prompt: int
    output: int
    cached: int = 0


@dataclass(slots=True)
class Times:
    """Times of a request in a replay; None if it ended without them."""

    sent: float | None = None
    """Time at which a replica got it."""
    replica: int | None = None
    """Index of that replica's span."""
    first: float | None = None
    finished: float | None = None


@dataclass(slots=True, eq=False)
class _Replica:
    engine: model.Engine
    index: int
    serving: bool = False
    step: model.Step | None = None
    in_flight: int = 0
    pending: float = 0.0
    """Blocks of prompt that are not computed yet."""
    picked: float = -math.inf


def replay(
    parameters: model.Parameters,
    spans: Sequence[Span],
    arrivals: Sequence[Arrival],
    *,
    slots: int | None = None,
) -> list[Times]:
    """Return the times of each request, which arrive in order of time.

    Each replica has `slots` requests at most, by default as many as its batch. Others wait in the router, the oldest
    first.
    """
    run = _Run(parameters, spans, arrivals, slots=slots or parameters.max_sequences)
    run.play()
    return run.times


@dataclass(slots=True)
class _Run:
    parameters: model.Parameters
    spans: Sequence[Span]
    arrivals: Sequence[Arrival]
    slots: int
    times: list[Times] = field(init=False)
    _replicas: list[_Replica] = field(init=False)
    _changes: list[tuple[float, bool, int]] = field(init=False)
    _change: int = 0
    _arrival: int = 0
    _queue: deque[int] = field(default_factory=deque)
    _ends: list[tuple[float, int]] = field(default_factory=list)
    """Ends of the present steps and their replicas, as a heap."""

    def __post_init__(self) -> None:
        self.times = [Times() for _ in self.arrivals]
        self._replicas = [
            _Replica(model.Engine(self.parameters), index) for index in range(len(self.spans))
        ]
        changes = [(span.start, True, index) for index, span in enumerate(self.spans)]
        changes += [(span.end, False, index) for index, span in enumerate(self.spans)]
        self._changes = sorted(change for change in changes if change[0] < math.inf)

    def play(self) -> None:
        """Play all events in order of time; of equal times, arrivals come before ends of steps."""
        while True:
            change, arrival = self._next_change(), self._next_arrival()
            end = self._ends[0][0] if self._ends else math.inf
            now = min(change, arrival, end)
            if math.isinf(now) and now > 0:
                return
            if change <= now:
                _, serving, index = self._changes[self._change]
                self._change += 1
                self._replicas[index].serving = serving
                self._dispatch(now)
            elif arrival <= now:
                while self._next_arrival() <= now:
                    self._queue.append(self._arrival)
                    self._arrival += 1
                self._dispatch(now)
            else:
                _, index = heapq.heappop(self._ends)
                replica = self._replicas[index]
                self._end(replica, now)
                # NB: the next step has begun before the router hears of a free slot.
                self._begin(replica, now)
                self._dispatch(now)

    def _next_change(self) -> float:
        return self._changes[self._change][0] if self._change < len(self._changes) else math.inf

    def _next_arrival(self) -> float:
        at = self._arrival
        return self.arrivals[at].at if at < len(self.arrivals) else math.inf

    def _dispatch(self, now: float) -> None:
        """Send waiting requests to replicas with free slots, and wake those that were idle."""
        woken: list[_Replica] = []
        while self._queue:
            number = self._queue[0]
            request = self.arrivals[number]
            replica = self._pick(request)
            if replica is None:
                break
            self._queue.popleft()
            try:
                replica.engine.add(
                    model.Request(number, now, request.prompt, request.output, request.cached)
                )
            except ValueError:  # it never fits the KV cache, as the real engine says, too
                continue
            self.times[number].sent, self.times[number].replica = now, replica.index
            replica.in_flight += 1
            replica.pending += _blocks(request)
            replica.picked = now
            woken.append(replica)
        for replica in woken:
            self._begin(replica, now)

    def _pick(self, request: Arrival) -> _Replica | None:
        views = [
            EndpointView(
                str(one.index), one.in_flight, 0.0, one.engine.kv_usage, self.slots, "", one.pending
            )
            for one in self._replicas
            if one.serving and one.in_flight < self.slots
        ]
        if not views:
            return None
        tie = {str(one.index): one.picked for one in self._replicas}
        found = picking.pick(
            views, {}, strategy="LeastLoad", tie=tie, size=request.prompt / BLOCK_TOKENS
        )
        return None if found is None else self._replicas[int(found.name)]

    def _begin(self, replica: _Replica, now: float) -> None:
        """Start the next step, which ends early enough for the next arrival to join the batch."""
        if replica.step is not None or replica.engine.idle:
            return
        until = min(self._next_change(), self._next_arrival())
        replica.step = replica.engine.step(now, until=until)
        heapq.heappush(self._ends, (now + replica.step.duration, replica.index))

    def _end(self, replica: _Replica, now: float) -> None:
        """Note the tokens of a step that ended."""
        step, replica.step = replica.step, None
        assert step is not None
        for request in step.first:
            self.times[self._number(request)].first = now
            replica.pending -= _blocks(self.arrivals[self._number(request)])
        for request in step.finished:
            self.times[self._number(request)].finished = now
            replica.in_flight -= 1

    @staticmethod
    def _number(request: model.Request) -> int:
        assert isinstance(request.key, int)
        return request.key


def _blocks(request: Arrival) -> float:
    return (request.prompt - request.cached) / BLOCK_TOKENS
