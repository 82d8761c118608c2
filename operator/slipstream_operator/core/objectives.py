"""Objectives: from percentiles as users write them to numbers, and how measurements compare with them."""

import dataclasses
import functools
import itertools
import math
from array import array
from collections.abc import Iterator, Sequence
from typing import Final

from slipstream_operator.api import units
from slipstream_operator.api.slo import LatencyObjectives, Percentiles, SloSpec

METRICS: Final = ("ttft", "tpot", "e2e")
PERCENTILES: Final = {"p99": 0.99, "p95": 0.95, "p90": 0.90, "p50": 0.50}


@dataclasses.dataclass(frozen=True)
class Objective:
    """`share` of the requests must see `metric` within `target` seconds."""

    metric: str
    percentile: str
    target: float
    text: str

    @property
    def name(self) -> str:
        """`ttft-p95`: what status keys it by."""
        return f"{self.metric}-{self.percentile}"

    @property
    def share(self) -> float:
        """The percentile as a share of requests."""
        return PERCENTILES[self.percentile]


@dataclasses.dataclass(frozen=True)
class Objectives:
    """All objectives of a service, the strictest percentile of a metric first."""

    latency: tuple[Objective, ...] = ()
    throughput: int | None = None
    """Output tokens per second that all replicas together must be able to make."""

    def __bool__(self) -> bool:
        return bool(self.latency) or self.throughput is not None

    def without_tokens(self) -> "Objectives":
        """Return the objectives that a runtime without tokens can keep."""
        return Objectives(tuple(one for one in self.latency if one.metric == "e2e"))


def combine(slo: SloSpec, *, tier: LatencyObjectives | None) -> Objectives:
    """The service's objectives; those that it names itself win over the tier's, one by one."""
    latency = []
    for metric in METRICS:
        own: Percentiles | None = getattr(slo, metric)
        inherited: Percentiles | None = getattr(tier, metric) if tier else None
        for percentile in PERCENTILES:
            text = (own and getattr(own, percentile)) or (
                inherited and getattr(inherited, percentile)
            )
            if text:
                latency.append(Objective(metric, percentile, units.seconds(text), text))
    return Objectives(
        latency=tuple(latency),
        throughput=slo.throughput.output_tokens_per_second if slo.throughput else None,
    )


@dataclasses.dataclass(frozen=True, slots=True)
class Histogram:
    """Requests per latency bucket over some window."""

    bounds: tuple[float, ...] = ()
    """Upper bounds in seconds, the last is inf."""
    counts: Sequence[float] = ()
    """Cumulative."""

    @property
    def buckets(self) -> Iterator[tuple[float, float]]:
        """Upper bound and cumulative count of each."""
        return zip(self.bounds, self.counts, strict=True)

    @property
    def count(self) -> float:
        """Requests in the window."""
        return self.counts[-1] if self.counts else 0.0


EMPTY: Final = Histogram()


def quantile(histogram: Histogram, share: float) -> float | None:
    """The latency that `share` of the requests stay under, interpolated in its bucket as PromQL does; None if empty."""
    total = histogram.count
    if total <= 0:
        return None
    rank = share * total
    low, below = 0.0, 0.0
    for bound, cumulative in histogram.buckets:
        if cumulative >= rank:
            if math.isinf(bound):
                return low
            inside = cumulative - below
            return bound if inside <= 0 else low + (bound - low) * (rank - below) / inside
        low, below = bound, cumulative
    return low


def attainment(histogram: Histogram, target: float) -> float | None:
    """Share of the requests within `target` seconds, interpolated inside the bucket that holds it; None if empty."""
    total = histogram.count
    if total <= 0:
        return None
    low, below = 0.0, 0.0
    for bound, cumulative in histogram.buckets:
        if target <= bound:
            if math.isinf(bound):
                return below / total
            return (below + (cumulative - below) * (target - low) / (bound - low)) / total
        low, below = bound, cumulative
    return 1.0


def budget_remaining(share: float, attained: float) -> float:
    """Return the remaining share of the error budget `1 - share`: 1 is untouched, 0 spent, less than 0 overdrawn."""
    return 1.0 - (1.0 - attained) / (1.0 - share)


def histogram(buckets: Sequence[tuple[float, float]]) -> Histogram:
    """Build a histogram from unordered cumulative buckets; counts are made monotone, since scrapes differ in time."""
    ordered = sorted(buckets)
    counts = itertools.accumulate([count for _, count in ordered], max, initial=0.0)
    bounds = _shared(tuple([bound for bound, _ in ordered]))
    return Histogram(bounds, array("d", list(counts)[1:]))


@functools.lru_cache(maxsize=64)
def _shared(bounds: tuple[float, ...]) -> tuple[float, ...]:
    """NB: thousands of histograms have the same few bounds."""
    return bounds
