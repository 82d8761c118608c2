"""What many scores say together: means over seeds, sums over scenarios, intervals, and who is best."""

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

import numpy as np

from slipstream_simulator.score import Score

GOAL: Final = 0.99
_RESAMPLES: Final = 2000


Figure: TypeAlias = Callable[[Score], float]


class Interval(NamedTuple):
    """A figure and its 95 % interval."""

    middle: float
    low: float
    high: float


@dataclass(frozen=True)
class Totals:
    """Of one policy: mean attainment over scenarios, and the sum of GPU-hours; means over seeds."""

    attainment: float
    gpu_hours: float


class Scores:
    """All scores, by policy, scenario and seed."""

    def __init__(self, scores: Iterable[Score] = ()) -> None:
        self._by: defaultdict[tuple[str, str], dict[int, Score]] = defaultdict(dict)
        self.add(scores)

    def add(self, scores: Iterable[Score]) -> None:
        """The same run again changes nothing."""
        for one in scores:
            self._by[one.policy, one.scenario][one.seed] = one

    def has(self, policy: str, scenario: str, seed: int) -> bool:
        """Whether it has been played."""
        return seed in self._by[policy, scenario]

    def of(self, policy: str, scenario: str) -> list[Score]:
        """One a seed, in order of seeds."""
        found = self._by[policy, scenario]
        return [found[seed] for seed in sorted(found)]

    def mean(self, policy: str, scenario: str, figure: Figure) -> float:
        """Over the seeds; NaN if there is none."""
        values = [figure(one) for one in self.of(policy, scenario)]
        return float(np.mean(values)) if values else float("nan")

    def interval(self, policy: str, scenario: str, figure: Figure) -> Interval:
        """The mean over the seeds and its 95 % interval, by a bootstrap of the seeds; NaN if there is none."""
        values = np.array([figure(one) for one in self.of(policy, scenario)], dtype=np.float64)
        if not len(values):
            return Interval(math.nan, math.nan, math.nan)
        picks = np.random.default_rng(0).integers(0, len(values), (_RESAMPLES, len(values)))
        low, high = np.quantile(values[picks].mean(axis=1), [0.025, 0.975])
        return Interval(float(values.mean()), float(low), float(high))

    def keeps(self, policy: str, scenario: str) -> bool:
        """Whether it attains the goal, in the mean over the seeds."""
        return self.mean(policy, scenario, lambda score: score.attainment) >= GOAL

    def kept(self, policy: str, scenarios: Sequence[str]) -> list[str]:
        """Of these those in which it attains the goal."""
        return [one for one in scenarios if self.keeps(policy, one)]

    def totals(self, policy: str, scenarios: Sequence[str]) -> Totals:
        """Over these scenarios."""
        return Totals(
            float(np.mean([self.mean(policy, name, lambda s: s.attainment) for name in scenarios])),
            float(np.sum([self.mean(policy, name, lambda s: s.gpu_hours) for name in scenarios])),
        )

    def ratio(self, policy: str, other: str, scenarios: Sequence[str]) -> Interval:
        """GPU-hours over another policy's, and its 95 % interval, by a bootstrap of seeds that both have."""
        pairs = [self._paired(policy, other, name, lambda one: one.gpu_hours) for name in scenarios]
        generator = np.random.default_rng(0)
        drawn = []
        for _ in range(_RESAMPLES):
            picks = [pair[:, generator.integers(0, pair.shape[1], pair.shape[1])] for pair in pairs]
            own, theirs = np.sum([pick.mean(axis=1) for pick in picks], axis=0)
            drawn.append(own / theirs)
        own, theirs = np.sum([pair.mean(axis=1) for pair in pairs], axis=0)
        low, high = np.quantile(drawn, [0.025, 0.975])
        return Interval(float(own / theirs), float(low), float(high))

    def beyond(self, policy: str, other: str, scenarios: Sequence[str]) -> float:
        """What it attains beyond another policy: mean over the scenarios, of seeds that both have."""
        pairs = [
            self._paired(policy, other, name, lambda one: one.attainment) for name in scenarios
        ]
        return float(np.mean([pair[0].mean() - pair[1].mean() for pair in pairs]))

    def _paired(
        self, policy: str, other: str, scenario: str, figure: Figure
    ) -> "np.ndarray[tuple[int, int], np.dtype[np.float64]]":
        first = {one.seed: figure(one) for one in self.of(policy, scenario)}
        second = {one.seed: figure(one) for one in self.of(other, scenario)}
        seeds = sorted(first.keys() & second.keys())
        return np.array([[first[seed] for seed in seeds], [second[seed] for seed in seeds]])


def cheapest(options: Mapping[str, Totals], *, bar: float) -> str:
    """The cheapest that attains the bar; the one that attains most if none does."""
    able = {name: one for name, one in options.items() if one.attainment >= bar}
    if able:
        return min(able, key=lambda name: able[name].gpu_hours)
    return max(options, key=lambda name: options[name].attainment)


def front(options: Mapping[str, Totals]) -> Collection[str]:
    """The policies that no other beats in both attainment and GPU-hours."""
    return {
        name
        for name, one in options.items()
        if not any(
            other != one and other.attainment >= one.attainment and other.gpu_hours <= one.gpu_hours
            for other in options.values()
        )
    }
