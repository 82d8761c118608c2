"""What many scores say together: means over seeds, sums over scenarios, intervals, and who is best."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from slipstream_operator.simulator.score import Score

GOAL: Final = 0.99
_RESAMPLES: Final = 2000


@dataclass(frozen=True)
class Totals:
    """Of one policy: mean attainment over scenarios, and the sum of GPU-hours; means over seeds."""

    attainment: float
    gpu_hours: float


class Scores:
    """All scores, by policy, scenario and seed."""

    def __init__(self, scores: Iterable[Score] = ()) -> None:
        self._by: dict[tuple[str, str, int], Score] = {}
        self.add(scores)

    def add(self, scores: Iterable[Score]) -> None:
        """The same run again changes nothing."""
        self._by.update({(one.policy, one.scenario, one.seed): one for one in scores})

    def of(self, policy: str, scenario: str) -> list[Score]:
        """One a seed, in order of seeds."""
        found = [(key[2], one) for key, one in self._by.items() if key[:2] == (policy, scenario)]
        return [one for _, one in sorted(found, key=lambda pair: pair[0])]

    def mean(self, policy: str, scenario: str, figure: Callable[[Score], float]) -> float:
        """Over the seeds; NaN if there is none."""
        values = [figure(one) for one in self.of(policy, scenario)]
        return float(np.mean(values)) if values else float("nan")

    def totals(self, policy: str, scenarios: Sequence[str]) -> Totals:
        """Over these scenarios."""
        return Totals(
            float(np.mean([self.mean(policy, name, lambda s: s.attainment) for name in scenarios])),
            float(np.sum([self.mean(policy, name, lambda s: s.gpu_hours) for name in scenarios])),
        )

    def ratio(
        self, policy: str, other: str, scenarios: Sequence[str]
    ) -> tuple[float, float, float]:
        """GPU-hours over another policy's, and its 95 % interval, by a bootstrap of seeds that both have."""
        pairs = [self._paired(policy, other, name) for name in scenarios]
        generator = np.random.default_rng(0)
        drawn = []
        for _ in range(_RESAMPLES):
            picks = [pair[:, generator.integers(0, pair.shape[1], pair.shape[1])] for pair in pairs]
            ours, theirs = np.sum([pick.mean(axis=1) for pick in picks], axis=0)
            drawn.append(ours / theirs)
        ours, theirs = np.sum([pair.mean(axis=1) for pair in pairs], axis=0)
        low, high = np.quantile(drawn, [0.025, 0.975])
        return float(ours / theirs), float(low), float(high)

    def _paired(
        self, policy: str, other: str, scenario: str
    ) -> "np.ndarray[tuple[int, int], np.dtype[np.float64]]":
        first = {one.seed: one.gpu_hours for one in self.of(policy, scenario)}
        second = {one.seed: one.gpu_hours for one in self.of(other, scenario)}
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
