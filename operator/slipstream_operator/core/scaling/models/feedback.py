"""Slow feedback: measured latency corrects predicted latency and, if the error budget is overspent, the demand."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Final

MIN_REQUESTS: Final = 100.0
"""Requests of a window below which a percentile is too uncertain to learn from."""
MIN_UTILIZATION: Final = 0.4
"""Utilization below which more replicas would not improve latency."""
_CORRECTION_SECONDS: Final = 300.0
"""Time constant of a correction, in seconds: slow, so that it follows lasting errors of the model and not bursts."""
_CORRECTION_RANGE: Final = (0.4, 3.0)
"""Bounds of measured over predicted latency: beyond them the measurement is of something else than load."""
_KAPPA_RANGE: Final = (1.0, 2.0)
"""Bounds of kappa, which raises the demand and never lowers it."""
_KAPPA_STEP: Final = 0.2
"""Growth of the logarithm of kappa in 5 minutes in which twice the error budget was spent."""


@dataclasses.dataclass(frozen=True, slots=True)
class Feedback:
    """Corrections by metric, which are measured over predicted percentiles, and `kappa`, a factor of the demand."""

    corrections: Mapping[str, float] = dataclasses.field(default_factory=dict)
    kappa: float = 1.0


def with_correction(
    feedback: Feedback, metric: str, *, measured: float, predicted: float, seconds: float
) -> Feedback:
    """Return the feedback with the correction of a metric moved towards measured over predicted latency.

    It moves half of the way in about 3.5 minutes.
    """
    if not (0 < predicted < math.inf and measured > 0):
        return feedback
    low, high = _CORRECTION_RANGE
    known = feedback.corrections.get(metric, 1.0)
    gain = 1 - math.exp(-seconds / _CORRECTION_SECONDS)
    moved = known * math.exp(gain * math.log(measured / predicted / known))
    corrections = {**feedback.corrections, metric: min(max(moved, low), high)}
    return dataclasses.replace(feedback, corrections=corrections)


def with_kappa(feedback: Feedback, *, spent: float | None, seconds: float) -> Feedback:
    """Return the feedback with kappa raised while the error budget is overspent, and lowered to 1 four times slower.

    `spent` is the share of requests that missed, over the allowed share; None keeps kappa.
    """
    if spent is None:
        return feedback
    low, high = _KAPPA_RANGE
    speed = min(spent - 1, 3.0) if spent > 1 else -0.25
    kappa = feedback.kappa * math.exp(_KAPPA_STEP * speed * seconds / 300.0)
    return dataclasses.replace(feedback, kappa=min(max(kappa, low), high))
