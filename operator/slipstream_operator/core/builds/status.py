"""Status of a ModelBuild."""

from typing import Any

from slipstream_operator.api import conditions
from slipstream_operator.api.conditions import Verdict
from slipstream_operator.api.modelbuild import ModelBuildStatus
from slipstream_operator.api.status import ConditionStatus
from slipstream_operator.core.observed import ObservedBuild
from slipstream_operator.errors import PermanentError
from slipstream_operator.names import Condition, Reason


def summarise(
    observed: ObservedBuild, refusal: PermanentError | None, *, now: str
) -> dict[str, Any]:
    """Return the status to write."""
    parent = observed.parent
    if refusal is not None:
        accepted = Verdict(Condition.ACCEPTED, "False", refusal.reason, refusal.message)
        ready = Verdict(Condition.READY, "False", refusal.reason, refusal.message)
    else:
        accepted = Verdict(Condition.ACCEPTED, "True", Reason.ACCEPTED, "The object is valid.")
        ready = Verdict(Condition.READY, "False", Reason.PENDING, "The build has not started yet.")
    merged = conditions.merge(
        [ready, accepted], before=parent.conditions, generation=parent.generation, now=now
    )
    return ModelBuildStatus(
        observed_generation=parent.generation,
        phase="Pending",
        conditions=[ConditionStatus(**condition.model_dump()) for condition in merged],
    ).model_dump(by_alias=True, exclude_none=True)
