"""Slow feedback: measured latency corrects predicted latency and, if the error budget is overspent, the demand."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Final

MIN_REQUESTS: Final = 100.0
"""Requests below which a tail says too little to learn from."""
MIN_UTILISATION: Final = 0.4
"""Below it bad latency is not for want of replicas."""
_CORRECTION_SECONDS: Final = 300.0
_CORRECTION_RANGE: Final = (0.4, 3.0)
_KAPPA_RANGE: Final = (1.0, 2.0)
_KAPPA_STEP: Final = 0.2
"""Growth of kappa in 5 minutes in which twice the error budget was spent."""


@dataclasses.dataclass(frozen=True, slots=True)
class Feedback:
    """`corrections` by metric: measured over predicted tail latency. `kappa` multiplies the demand."""

    corrections: Mapping[str, float] = dataclasses.field(default_factory=dict)
    kappa: float = 1.0


def with_correction(
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


def with_kappa(feedback: Feedback, *, spent: float | None, seconds: float) -> Feedback:
    """Kappa grows while the error budget is overspent, and falls back to 1 at a quarter of the speed.

    `spent` is the share of requests that missed, over the share that may; None if that can't be judged now.
    """
    if spent is None:
        return feedback
    low, high = _KAPPA_RANGE
    speed = min(spent - 1, 3.0) if spent > 1 else -0.25
    kappa = feedback.kappa * math.exp(_KAPPA_STEP * speed * seconds / 300.0)
    return dataclasses.replace(feedback, kappa=min(max(kappa, low), high))
