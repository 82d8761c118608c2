"""Histograms of latencies, and their quantiles by linear and by lognormal interpolation inside a bucket.

Linear interpolation is that of PromQL's `histogram_quantile`, so status shows the numbers of users' dashboards. Scaling
uses lognormal interpolation, because vLLM's latency buckets are coarse. An example: the target is 40 ms, and every
request takes 27 ms. Between the bounds of 25 and 50 ms a straight line would call that service late.
"""

import dataclasses
import functools
import itertools
import math
from array import array
from collections.abc import Iterator, Sequence
from statistics import NormalDist
from typing import Final

_NORMAL: Final = NormalDist()


@dataclasses.dataclass(frozen=True, slots=True)
class Histogram:
    """Requests per latency bucket over some window."""

    bounds: tuple[float, ...] = ()
    """Upper bounds in seconds, the last is inf."""
    counts: Sequence[float] = ()
    """Cumulative counts of requests."""

    @property
    def buckets(self) -> Iterator[tuple[float, float]]:
        """Upper bound and cumulative count of each."""
        return zip(self.bounds, self.counts, strict=True)

    @property
    def count(self) -> float:
        """Requests in the window."""
        return self.counts[-1] if self.counts else 0.0


EMPTY: Final = Histogram()


def from_buckets(buckets: Sequence[tuple[float, float]]) -> Histogram:
    """Build a histogram from unordered cumulative buckets; counts are made monotone, since scrapes differ in time."""
    ordered = sorted(buckets)
    counts = itertools.accumulate([count for _, count in ordered], max, initial=0.0)
    bounds = _shared(tuple([bound for bound, _ in ordered]))
    return Histogram(bounds, array("d", list(counts)[1:]))


def linear_quantile(histogram: Histogram, share: float) -> float | None:
    """Return the quantile in seconds by linear interpolation, as `histogram_quantile` of PromQL; None if empty."""
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


def linear_attainment(histogram: Histogram, target: float) -> float | None:
    """Return the share of requests within `target` seconds by linear interpolation; None if empty."""
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


def lognormal_attainment(histogram: Histogram, target: float) -> float | None:
    """Return the share of requests within `target` seconds by lognormal interpolation; None if empty."""
    total = histogram.count
    if total <= 0:
        return None
    low, below = 0.0, 0.0
    for bound, cumulative in histogram.buckets:
        if target <= bound:
            if math.isinf(bound) or low <= 0 or cumulative <= below:
                return (cumulative if target == bound or cumulative <= below else below) / total
            left, right = _score(below, total), _score(cumulative, total)
            share = math.log(target / low) / math.log(bound / low)
            return _NORMAL.cdf(left + share * (right - left))
        low, below = bound, cumulative
    return 1.0


def lognormal_quantile(
    histogram: Histogram, share: float, *, expected: float | None = None
) -> float | None:
    """Return the quantile in seconds by lognormal interpolation; None if unknown.

    In the last bucket that is not empty, the true latencies can be anywhere above its lower bound. There `expected`
    replaces a higher interpolated value, down to that bound.
    """
    total = histogram.count
    if total <= 0:
        return None
    wanted = _NORMAL.inv_cdf(share)
    low, left = 0.0, -math.inf
    for bound, cumulative in histogram.buckets:
        right = _score(cumulative, total)
        if right >= wanted:
            if math.isinf(bound):
                return low or None
            if low <= 0 or right <= left or math.isinf(left):
                return bound
            found = low * math.exp((wanted - left) / (right - left) * math.log(bound / low))
            if expected is not None and cumulative >= total:
                found = min(found, max(expected, low))
            return found
        low, left = bound, right
    return None


@functools.lru_cache(maxsize=64)
def _shared(bounds: tuple[float, ...]) -> tuple[float, ...]:
    """Return equal bounds as one object, since thousands of histograms have the same few bounds."""
    return bounds


def _score(cumulative: float, total: float) -> float:
    """Return the normal quantile of a share, kept finite by half a request."""
    half = min(0.5, total / 4)
    return _NORMAL.inv_cdf(min(max(cumulative, half), total - half) / total)
