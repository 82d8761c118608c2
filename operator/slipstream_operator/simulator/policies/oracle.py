"""The clairvoyant: it knows the traffic to come and orders each pod one cold start ahead.

Not a proven optimum. It is the cheapest of a family of schedules, the load in replicas plus z times its square root
(the form that pooled queues need), with z as low as the judge, a run of the same simulator, allows. Starting a pod
costs its cold start, so a replica that would be missed again sooner than that is kept.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from slipstream_operator.core.objectives import Objectives
from slipstream_operator.core.scaling.promql import Expression
from slipstream_operator.simulator.policies import profile
from slipstream_operator.simulator.policies.policy import Seen
from slipstream_runtime.simulator.model import Parameters

STEP: Final = 15.0
"""Seconds of one entry of a schedule."""
HIGHEST_Z: Final = 4.0
LOWEST_Z: Final = -0.8
ROUNDS: Final = 7
"""Halvings of the range of z: to about 0.04."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Schedule:
    """Replicas that must be ready, one count every `STEP` seconds from the start; the last one stays."""

    counts: tuple[int, ...]

    def ordered(self, now: float, *, lead: float) -> int:
        """What must be asked for at `now` so that starts of `lead` seconds are over in time."""
        first = min(int(now // STEP), len(self.counts) - 1)
        last = min(math.ceil((now + lead) / STEP), len(self.counts) - 1)
        return max(self.counts[first : last + 1])


class Oracle:
    """Follows a schedule, whatever it sees."""

    every = STEP

    def __init__(self, name: str, schedule: Schedule, *, lead: float) -> None:
        self.name = name
        self._schedule = schedule
        self._lead = lead

    def queries(self) -> Mapping[str, Expression]:
        """It asks nothing."""
        return {}

    def decide(self, seen: Seen) -> int:
        """The schedule's count, within bounds."""
        ordered = self._schedule.ordered(seen.now, lead=self._lead)
        return min(max(ordered, seen.minimum), seen.maximum)

    def restarted(self) -> None:
        """It forgets nothing."""


def load(
    arrivals: Floats,
    prompts: Floats,
    outputs: Floats,
    *,
    parameters: Parameters,
    objectives: Objectives,
    duration: float,
) -> Floats:
    """The load in replicas of each step: arrivals over what one replica serves of such requests inside the SLO."""
    steps = math.ceil(duration / STEP)
    index = np.minimum((arrivals // STEP).astype(int), steps - 1)
    count = np.bincount(index, minlength=steps).astype(np.float64)
    prompt = np.bincount(index, weights=prompts, minlength=steps)
    output = np.bincount(index, weights=outputs, minlength=steps)
    # NB: requests stay for many steps: lengths and rates of a minute say what the engines carry.
    kernel = np.ones(4)
    counts, prompts, outputs, seconds = (
        np.convolve(each, kernel)[:steps] for each in (count, prompt, output, np.full(steps, STEP))
    )
    return np.array(
        [
            n / s / profile.sustainable(parameters, objectives, prompt=p / n, output=max(o / n, 1))
            if n
            else 0.0
            for n, p, o, s in zip(counts, prompts, outputs, seconds, strict=True)
        ]
    )


def schedule(needed: Floats, *, z: float, minimum: int, maximum: int, keep: float) -> Schedule:
    """`load + z*sqrt(load)`, rounded up; gaps of a replica shorter than `keep` seconds are filled."""
    counts = np.clip(np.ceil(needed + z * np.sqrt(needed)), minimum, maximum).astype(int)
    gap = math.ceil(keep / STEP)
    for level in range(minimum + 1, int(counts.max(initial=minimum)) + 1):
        wanted = np.flatnonzero(counts >= level)
        for before, after in pairwise(wanted):
            if 1 < after - before <= gap:
                counts[before:after] = np.maximum(counts[before:after], level)
    return Schedule(tuple(int(count) for count in counts))


def cheapest(
    judge: Callable[[Schedule], float], schedules: Callable[[float], Schedule], *, target: float
) -> Schedule:
    """The schedule of the lowest z that the judge gives at least `target`; the highest z if none does."""
    best = schedules(HIGHEST_Z)
    if judge(best) < target:
        return best
    low, high = LOWEST_Z, HIGHEST_Z
    for _ in range(ROUNDS):
        middle = (low + high) / 2
        candidate = schedules(middle)
        if judge(candidate) >= target:
            best, high = candidate, middle
        else:
            low = middle
    return best


def lead_of(cold_starts: Sequence[float]) -> float:
    """The cold start that it reckons with, in seconds: the 90th percentile of drawn ones."""
    return float(np.quantile(np.asarray(cold_starts), 0.9))
