"""Latency of two servers under the same load, measured in turn, so that what the machine does befalls both."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from scipy import stats

from slipstream_runtime.evaluate import load, records, traffic
from slipstream_runtime.evaluate.quality import statistics
from slipstream_runtime.evaluate.quality.statistics import Comparison, Interval

LEAST: Final = 30
"""Pairs from which a mean counts as normal, so that its interval is finite."""
MEASURES: Final = ("ttft", "tpot", "e2e")

Progress = Callable[[int], None]
"""Called with the number of finished pairs."""


@dataclass(frozen=True, slots=True)
class Growth:
    """Growth of a latency from the baseline to the candidate, each the mean of the pairs in seconds."""

    measure: str
    baseline: float
    candidate: float
    comparison: Comparison


@dataclass(frozen=True, slots=True)
class Measured:
    """Result of all pairs."""

    growths: tuple[Growth, ...]
    """Measures that both servers have in every pair."""
    requests: int
    failed_baseline: int
    failed_candidate: int


async def measure(
    baseline: traffic.Plan, candidate: traffic.Plan, *, pairs: int, progress: Progress
) -> Measured:
    """Run both plans `pairs` times in turn, the order changing each time; one run of each before warms up."""
    for plan in (baseline, candidate):
        await load.run(dataclasses.replace(plan, duration=min(plan.duration, 1.0)))
    found = []
    for number in range(pairs):
        plans = (baseline, candidate) if number % 2 == 0 else (candidate, baseline)
        first, second = [await load.run(plan) for plan in plans]
        found.append((first, second) if number % 2 == 0 else (second, first))
        progress(number + 1)
    return of([(before.summary, after.summary) for before, after in found])


def of(pairs: Sequence[tuple[records.Summary, records.Summary]]) -> Measured:
    """Return the growth of each latency. A measure that a run lacks is left out."""
    growths = []
    for name in MEASURES:
        means = [(getattr(before, name).mean, getattr(after, name).mean) for before, after in pairs]
        if not means or any(not value for pair in means for value in pair):
            continue
        growths.append(
            Growth(
                name,
                sum(before for before, _ in means) / len(means),
                sum(after for _, after in means) / len(means),
                _growth([math.log(after / before) for before, after in means]),
            )
        )
    return Measured(
        tuple(growths),
        requests=sum(before.requests + after.requests for before, after in pairs),
        failed_baseline=sum(before.failed for before, _ in pairs),
        failed_candidate=sum(after.failed for _, after in pairs),
    )


def _growth(logarithms: Sequence[float]) -> Comparison:
    """Return the relative growth with Student's interval of the mean logarithm, unbounded with too few pairs."""
    found = stats.ttest_1samp(logarithms, 0.0)
    low, high = -math.inf, math.inf
    if len(logarithms) >= LEAST:
        low, high = found.confidence_interval(statistics.CONFIDENCE)
    loss = Interval(
        *(math.expm1(value) for value in (low, sum(logarithms) / len(logarithms), high))
    )
    return Comparison(len(logarithms), loss, p=float(found.pvalue))
