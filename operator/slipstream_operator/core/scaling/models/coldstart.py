"""Cold start: seconds from a pod's creation to its readiness, learned as a lognormal distribution."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Final

UNKNOWN_SECONDS: Final = 180.0
"""Assumed until a start was seen."""
_MEMORY: Final = 20.0
"""Starts that the estimate stands for at most: older ones fade."""
_P90: Final = 1.2816
_SPREAD_AT_FIRST: Final = 0.3
"""Standard deviation of the logarithm where one start is all that was seen."""
_MAX_SPREAD: Final = 1.0


@dataclasses.dataclass(frozen=True, slots=True)
class ColdStart:
    """Count, mean and variance of the logarithm of the seconds that starts took."""

    count: float = 0.0
    mean: float = 0.0
    variance: float = 0.0

    @property
    def known(self) -> bool:
        """Whether a start was seen."""
        return self.count > 0

    @property
    def median(self) -> float:
        """Seconds that half of the starts stay under."""
        return math.exp(self.mean) if self.known else UNKNOWN_SECONDS

    @property
    def p90(self) -> float:
        """Seconds that 9 of 10 starts stay under."""
        if not self.known:
            return UNKNOWN_SECONDS
        spread = max(math.sqrt(self.variance), _SPREAD_AT_FIRST / math.sqrt(self.count))
        return math.exp(self.mean + _P90 * min(spread, _MAX_SPREAD))

    def expected(self, *, waited: float) -> float:
        """The same, if a pod has been starting for `waited` seconds: before any start was seen, that is half of it."""
        return max(self.p90, waited if self.known else 2 * waited)


def learn(estimate: ColdStart, seconds: Sequence[float]) -> ColdStart:
    """The estimate after these starts."""
    count, mean, variance = estimate.count, estimate.mean, estimate.variance
    for duration in seconds:
        value = math.log(max(duration, 1.0))
        count = min(count + 1, _MEMORY)
        delta = value - mean
        mean += delta / count
        variance += (delta * (value - mean) - variance) / count
    return ColdStart(count, mean, variance)
