"""Conditions, and the merge that keeps a transition time until the status changes."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Literal

from slipstream_operator.api.base import ApiModel

ConditionStatus = Literal["True", "False", "Unknown"]


class Condition(ApiModel):
    """Condition as the API server stores it."""

    type: str
    status: ConditionStatus
    reason: str
    message: str
    observed_generation: int | None = None
    last_transition_time: str


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Current value of a condition, before the merge with its previous value."""

    type: str
    status: ConditionStatus
    reason: str
    message: str = ""


def merge(
    verdicts: Iterable[Verdict], *, before: Sequence[Condition], generation: int, now: str
) -> list[Condition]:
    """Return the conditions for the verdicts, in the same order. An unchanged status keeps its transition time."""
    known = {condition.type: condition for condition in before}

    def since(verdict: Verdict) -> str:
        old = known.get(verdict.type)
        return old.last_transition_time if old and old.status == verdict.status else now

    return [
        Condition(
            type=verdict.type,
            status=verdict.status,
            reason=verdict.reason,
            message=verdict.message,
            observed_generation=generation,
            last_transition_time=since(verdict),
        )
        for verdict in verdicts
    ]
