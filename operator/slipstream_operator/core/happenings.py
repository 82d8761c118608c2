"""Kubernetes Events: transitions only, never a state that lasts."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Final, Literal

from slipstream_operator import names
from slipstream_operator.core.plan import Apply, Plan
from slipstream_operator.core.revisions import Rollout
from slipstream_operator.names import Condition, Reason

_TOLD: Final = (Condition.ACCEPTED, Condition.AVAILABLE, Condition.SLO_MET)

_SPECULATION: Final = {
    "speculationDisabled": Reason.SPECULATION_DISABLED,
    "speculationLoss": Reason.SPECULATION_LOSES,
}
"""Field of status.engine -> the reason under which its appearance is told."""


_OF_A_REVISION: Final = "Service"
"""Kind of child that marks the start and the end of a revision: its headless Service. Not all workloads are watched."""


@dataclasses.dataclass(frozen=True)
class Happening:
    """One Event on the user's object."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


def of_plan(plan: Plan) -> list[Happening]:
    """Revisions that come and go, traffic that moves, drift that is repaired."""
    found = []
    first = any(_is_entry(step) and step.uid is None for step in plan.applies)
    for step in plan.applies:
        revision = step.manifest["metadata"]["labels"].get(names.REVISION_LABEL)
        if step.drifted:
            found.append(
                Happening("Warning", Reason.DRIFT_REPAIRED, f"{step.ref}: {step.reason}, restored")
            )
        elif revision and step.ref.kind == _OF_A_REVISION and step.uid is None and not first:
            found.append(
                Happening("Normal", Reason.REVISION_CREATED, f"revision {revision} starts")
            )
        elif _is_entry(step) and step.uid is not None:
            active = step.manifest["spec"]["selector"].get(names.REVISION_LABEL)
            if active is None:
                message = "the router takes the traffic"
                found.append(Happening("Normal", Reason.ROUTER_ACTIVATED, message))
            else:
                found.append(_activated(active))
    found += [
        Happening("Normal", Reason.REVISION_DELETED, f"revision {step.ref.name} is {step.reason}")
        for step in plan.deletes
        if step.ref.kind == _OF_A_REVISION
    ]
    return found


def of_rollout(recorded: str | None, service: str, rollout: Rollout) -> list[Happening]:
    """Traffic that the router moves; `recorded` is the name of the revision that it sends requests to now."""
    if recorded is None or not rollout.by_router or rollout.routed is None:
        return []
    moves = recorded != names.revision_name(service, rollout.routed)
    return [_activated(rollout.routed)] if moves else []


def _activated(revision: str) -> Happening:
    return Happening("Normal", Reason.REVISION_ACTIVATED, f"revision {revision} takes the traffic")


def _is_entry(step: Apply) -> bool:
    """Whether this is the Service that clients reach; it is made together with the first revision."""
    labels = step.manifest["metadata"]["labels"]
    return step.ref.kind == "Service" and step.ref.name == labels.get(names.SERVICE_LABEL)


def of_status(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Happening]:
    """Conditions that flipped, speculation that was switched off or does not pay, and a replica count that changed."""
    before = {condition["type"]: condition for condition in old.get("conditions", [])}
    found = []
    for condition in new.get("conditions", []):
        known = before.get(condition["type"])
        flipped = known is None or known["status"] != condition["status"]
        if condition["type"] not in _TOLD or not flipped or condition["status"] == "Unknown":
            continue
        good = condition["status"] == "True"
        beginning = good if condition["type"] == Condition.ACCEPTED else not good
        if known is None and beginning:
            continue
        found.append(
            Happening(
                "Normal" if good else "Warning",
                condition["reason"],
                f"{condition['type']}: {condition['message']}",
            )
        )
    for field, reason in _SPECULATION.items():
        told, before_it = (status.get("engine", {}).get(field) for status in (new, old))
        if told and not before_it:
            found.append(Happening("Warning", reason, told))
    was, is_now = (status.get("scaling", {}).get("desired") for status in (old, new))
    if was is not None and is_now is not None and was != is_now:
        found.append(
            Happening(
                "Normal",
                Reason.SCALED_UP if is_now > was else Reason.SCALED_DOWN,
                f"from {was} to {is_now}: {new['scaling']['reason']}",
            )
        )
    return found
