"""Cold start: seconds from a pod's creation to its readiness, learned as a lognormal distribution."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Final

UNKNOWN_SECONDS: Final = 180.0
"""Seconds of a cold start until one was observed: image, weights and compilation of a small model take minutes."""
_MAX_COUNT: Final = 20.0
"""Starts that the estimate stands for at most: older starts fade exponentially."""
_P90: Final = 1.2816
"""Quantile 0.9 of the standard normal distribution."""
_SPREAD_AT_FIRST: Final = 0.3
"""Standard deviation of the logarithm after one start: that of the starts in benchmarks/autoscaling."""
_MAX_SPREAD: Final = 1.0
"""Largest standard deviation of the logarithm: the 90th percentile is at most 3.6 times the median."""


@dataclasses.dataclass(frozen=True, slots=True)
class ColdStart:
    """Count of cold starts, and mean and variance of the logarithm of their seconds."""

    count: float = 0.0
    mean: float = 0.0
    variance: float = 0.0

    @property
    def known(self) -> bool:
        """Whether a cold start was observed."""
        return self.count > 0

    @property
    def median(self) -> float:
        """Median in seconds."""
        return math.exp(self.mean) if self.known else UNKNOWN_SECONDS

    @property
    def p90(self) -> float:
        """90th percentile in seconds."""
        if not self.known:
            return UNKNOWN_SECONDS
        spread = max(math.sqrt(self.variance), _SPREAD_AT_FIRST / math.sqrt(self.count))
        return math.exp(self.mean + _P90 * min(spread, _MAX_SPREAD))

    def expected(self, *, waited: float) -> float:
        """Return the expected seconds of a start while a pod has been starting for `waited` seconds.

        Before the first observed start, the pod is assumed to be halfway.
        """
        return max(self.p90, waited if self.known else 2 * waited)


def learn(estimate: ColdStart, seconds: Sequence[float]) -> ColdStart:
    """Return the estimate with more starts, in seconds."""
    count, mean, variance = estimate.count, estimate.mean, estimate.variance
    for duration in seconds:
        value = math.log(max(duration, 1.0))
        count = min(count + 1, _MAX_COUNT)
        delta = value - mean
        mean += delta / count
        variance += (delta * (value - mean) - variance) / count
    return ColdStart(count, mean, variance)
