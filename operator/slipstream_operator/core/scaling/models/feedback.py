"""Slow feedback: what is measured corrects what is predicted.

vLLM's latency buckets are coarse, so latencies are interpolated as if their logarithms were normal around the
target: a straight line between two bounds would call a service with a limit of 40 ms late whose requests all
take 27 ms, between the bounds of 25 and 50 ms.
"""

import dataclasses
import math
from collections.abc import Mapping
from statistics import NormalDist
from typing import Final

from slipstream_operator.core.objectives import Histogram

MIN_REQUESTS: Final = 100.0
"""Requests below which a tail says too little to learn from."""
MIN_UTILISATION: Final = 0.4
"""Below it bad latency is not for want of replicas."""
_CORRECTION_SECONDS: Final = 300.0
_CORRECTION_RANGE: Final = (0.4, 3.0)
_KAPPA_RANGE: Final = (1.0, 2.0)
_KAPPA_STEP: Final = 0.2
"""Growth of kappa in 5 minutes in which twice the error budget was spent."""
_NORMAL: Final = NormalDist()


@dataclasses.dataclass(frozen=True, slots=True)
class Feedback:
    """`corrections` by metric: measured over predicted tail latency. `kappa` multiplies the demand."""

    corrections: Mapping[str, float] = dataclasses.field(default_factory=dict)
    kappa: float = 1.0


def attainment(histogram: Histogram, target: float) -> float | None:
    """Share of the requests within `target` seconds, by lognormal interpolation in its bucket; None if empty."""
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


def quantile(histogram: Histogram, share: float, *, expected: float | None = None) -> float | None:
    """The latency that `share` of the requests stay under, by lognormal interpolation; None if it is unknown.

    Where its bucket is the last that is not empty, nobody knows how far into it requests reach: then what is
    expected counts, if it lies between the bucket's lower bound and the interpolation.
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


def corrected(
    feedback: Feedback, metric: str, *, measured: float, predicted: float, seconds: float
) -> Feedback:
    """The correction of a metric moves towards measured over predicted, by half in some 3 minutes."""
    if not (0 < predicted < math.inf and measured > 0):
        return feedback
    low, high = _CORRECTION_RANGE
    known = feedback.corrections.get(metric, 1.0)
    gain = 1 - math.exp(-seconds / _CORRECTION_SECONDS)
    moved = known * math.exp(gain * math.log(measured / predicted / known))
    corrections = {**feedback.corrections, metric: min(max(moved, low), high)}
    return dataclasses.replace(feedback, corrections=corrections)


def judged(feedback: Feedback, *, spent: float | None, seconds: float) -> Feedback:
    """Kappa grows while the error budget is overspent, and falls back to 1 at a quarter of the speed.

    `spent` is the share of requests that missed, over the share that may; None if that can't be judged now.
    """
    if spent is None:
        return feedback
    low, high = _KAPPA_RANGE
    speed = min(spent - 1, 3.0) if spent > 1 else -0.25
    kappa = feedback.kappa * math.exp(_KAPPA_STEP * speed * seconds / 300.0)
    return dataclasses.replace(feedback, kappa=min(max(kappa, low), high))


def _score(cumulative: float, total: float) -> float:
    """The normal quantile of a share, kept from infinity by half a request."""
    half = min(0.5, total / 4)
    return _NORMAL.inv_cdf(min(max(cumulative, half), total - half) / total)
