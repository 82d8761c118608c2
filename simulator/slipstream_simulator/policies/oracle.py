"""Clairvoyant oracle: a policy that knows every request and every start time in advance.

It finds an upper bound of the least GPU time, close to it but without proof. The judge is the fleet's own simulator.
The search lowers a schedule that keeps the objectives, step by step, until the budget of judgements is spent. Its
resolution is the length of a window, and it knows of faults only through the judge. It spends the requests that may
miss where the search comes first.
"""

import heapq
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from slipstream_operator.core.objectives import Objectives
from slipstream_operator.core.scaling.metrics.promql import Expression
from slipstream_runtime.simulator import model
from slipstream_simulator import readings
from slipstream_simulator.policies import capacity, schedule
from slipstream_simulator.policies.schedule import Schedule
from slipstream_simulator.policy import FleetView

Judge: TypeAlias = Callable[[Schedule], float]
"""Function that returns the share of requests inside the objectives if the fleet follows a schedule."""

GOAL: Final = 0.99
WINDOW_SECONDS: Final = 30.0
_SIZES: Final = 64
"""Upper limit of the exponents of a length's powers of two."""
_LOWEST, _HIGHEST, _PRECISION = 0.25, 8.0, 0.02
"""Lowest and highest factor on the load that the search tries, and its precision."""


@dataclass(frozen=True)
class Fleet:
    """Constraints of a schedule: limits, initial replicas, and the mean time of a start in seconds."""

    minimum: int
    maximum: int
    initial: int
    start: float


@dataclass
class Oracle:
    """Policy that follows a schedule and requests each pod early enough to be ready when it is due."""

    timetable: Schedule
    initial: int
    cold_start: Callable[[int], float]
    """Start time in seconds of the n-th pod after the initial pods, counted from 0."""
    name: str = "oracle"
    every: float = 5.0
    _orders: schedule.Orders = field(init=False)

    def __post_init__(self) -> None:
        # NB: it decides every `every` seconds, and must not be late by that time.
        self._orders = schedule.orders(
            self.timetable,
            initial=self.initial,
            cold_start=lambda number: self.cold_start(number) + self.every,
        )

    def queries(self) -> Mapping[str, Expression]:
        """Return no query, since the oracle knows the traffic."""
        return {}

    def decide(self, view: FleetView) -> int:
        """Return the number of replicas due now plus those that start for later."""
        wanted = self.timetable.at(view.now) + self._orders.starting(view.now)
        return readings.bounded(view, wanted)

    def restarted(self) -> None:
        """Nothing is lost, since the schedule is fixed."""


def load(
    times: ArrayLike,
    prompts: ArrayLike,
    outputs: ArrayLike,
    *,
    duration: float,
    engine: model.Parameters,
    objectives: Objectives,
    window: float = WINDOW_SECONDS,
) -> tuple[float, ...]:
    """Return the replicas that each window keeps busy.

    A request takes the inverse of the rate that its size allows."""
    sizes, which = np.unique(_SIZES * _powers(prompts) + _powers(outputs), return_inverse=True)
    seconds = np.array(
        [
            1 / capacity.rate(engine, objectives, prompt=2**prompt, output=2**output)
            for prompt, output in (divmod(int(size), _SIZES) for size in sizes)
        ]
    )
    windows = max(1, math.ceil(duration / window))
    place = np.clip((np.asarray(times) / window).astype(np.int64), 0, windows - 1)
    busy = np.bincount(place, weights=seconds[which], minlength=windows)
    return tuple(float(one) for one in busy / window)


def plan(
    work: Sequence[float],
    judge: Judge,
    fleet: Fleet,
    *,
    window: float = WINDOW_SECONDS,
    goal: float = GOAL,
    judgements: int = 40,
    warmup: float = 0.0,
) -> Schedule:
    """Return the cheapest schedule found that keeps the goal; the largest fleet all the time if none does.

    The schedule is not lowered in the warm-up, which is not scored.
    """
    search = _Search(judge, fleet, goal, judgements)
    need = search.margin(work, window)
    if need is None:
        return Schedule(window, (fleet.maximum,) * len(work))
    return search.executed(search.lowered(need, first=int(warmup // window)))


@dataclass
class _Search:
    judge: Judge
    fleet: Fleet
    goal: float
    left: int
    _verdicts: dict[Schedule, bool] = field(default_factory=dict)

    def executed(self, need: Schedule) -> Schedule:
        """Return the cheapest schedule of the fleet that covers a need."""
        return schedule.cheapest(need, initial=self.fleet.initial, start=self.fleet.start)

    def keeps(self, need: Schedule) -> bool:
        """Whether the goal is kept; this costs one judgement, unless the schedule was judged before."""
        executed = self.executed(need)
        if executed not in self._verdicts:
            self.left -= 1
            self._verdicts[executed] = self.judge(executed) >= self.goal
        return self._verdicts[executed]

    def margin(self, work: Sequence[float], window: float) -> Schedule | None:
        """Return the need with the least factor on the load that keeps the goal; None if the highest doesn't."""

        def need(factor: float) -> Schedule:
            counts = (math.ceil(one * factor) for one in work)
            return Schedule(window, tuple(self._limited(count) for count in counts))

        low, high = _LOWEST, 1.0
        while not self.keeps(need(high)):
            if high >= _HIGHEST:
                return None
            low, high = high, min(_HIGHEST, 1.5 * high)
        while high - low > _PRECISION * high and self.left > 0:
            middle = (low + high) / 2
            if self.keeps(need(middle)):
                high = middle
            else:
                low = middle
        return need(high)

    def lowered(self, need: Schedule, *, first: int) -> Schedule:
        """Remove a replica in ever shorter spans of time, the longest first, wherever the goal allows it."""
        spans = [(first - len(need.replicas), first)]
        while spans and self.left > 0:
            length, begin = heapq.heappop(spans)
            end = begin - length
            fewer = self._fewer(need, begin, end)
            if fewer == need:
                continue
            if self.keeps(fewer):
                need = fewer
                heapq.heappush(spans, (length, begin))
            elif end - begin > 1:
                middle = (begin + end) // 2
                heapq.heappush(spans, (begin - middle, begin))
                heapq.heappush(spans, (middle - end, middle))
        return need

    def _fewer(self, need: Schedule, first: int, end: int) -> Schedule:
        counts = list(need.replicas)
        counts[first:end] = [self._limited(count - 1) for count in counts[first:end]]
        return Schedule(need.window, tuple(counts))

    def _limited(self, count: int) -> int:
        return min(max(count, self.fleet.minimum), self.fleet.maximum)


def _powers(lengths: ArrayLike) -> NDArray[np.int64]:
    powers: NDArray[np.int64] = np.round(np.log2(np.maximum(1, lengths))).astype(np.int64)
    return powers
