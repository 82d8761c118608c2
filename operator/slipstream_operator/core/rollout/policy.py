"""Policy of a service's rollouts, with every default decided."""

import dataclasses
from typing import Final

from slipstream_operator.api import units
from slipstream_operator.api.inferenceservice import InferenceServiceSpec
from slipstream_operator.api.rollout import AnalysisSpec
from slipstream_operator.errors import PermanentError
from slipstream_operator.names import Reason

PAUSE: Final = 300.0
"""Seconds of a step by default."""
TOLERANCE: Final = 0.1
"""Relative loss of latency that is accepted by default."""
MIN_REQUESTS: Final = 100
"""Requests of each revision in a step by default."""
MAX_DURATION: Final = 3600.0
"""Seconds after which a step without a verdict is reported as held by default."""


@dataclasses.dataclass(frozen=True)
class Policy:
    """Policy of rollouts in steps."""

    steps: tuple[int, ...]
    """Percent of the requests that the new revision gets, in order."""
    pause: float = PAUSE
    tolerance: float = TOLERANCE
    surge: int | None = None
    """Maximum additional replicas; None for as many as a step needs."""
    latency: bool = True
    """Whether latencies are compared."""
    errors: bool = True
    """Whether failures and answers are compared."""
    min_requests: int = MIN_REQUESTS
    max_duration: float = MAX_DURATION


def of(spec: InferenceServiceSpec) -> Policy | None:
    """Return the policy; None if all requests move at once. Raise PermanentError without the router."""
    rollout = spec.rollout
    if rollout is None or rollout.steps is None or rollout.strategy == "Recreate":
        return None
    mode = spec.routing.mode if spec.routing else None
    if mode not in (None, "Router"):
        raise PermanentError(
            Reason.INVALID_SPEC,
            f'spec.rollout.steps: can\'t work with spec.routing.mode: "{mode}" because only the router gives each '
            "revision its share of the requests. Use routing.mode: Router, or leave out steps.",
        )
    analysis = rollout.analysis or AnalysisSpec()
    return Policy(
        steps=tuple(int(step.removesuffix("%")) for step in rollout.steps),
        pause=PAUSE if rollout.pause is None else units.seconds(rollout.pause),
        tolerance=TOLERANCE if rollout.tolerance is None else units.share(rollout.tolerance),
        surge=rollout.surge,
        latency=analysis.slo is not False,
        errors=analysis.errors is not False,
        min_requests=analysis.min_requests or MIN_REQUESTS,
        max_duration=MAX_DURATION
        if analysis.max_duration is None
        else units.seconds(analysis.max_duration),
    )
