"""Kubernetes Events about state transitions. A state that lasts causes no further Events."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from slipstream_operator import names
from slipstream_operator.core import wording
from slipstream_operator.core.plan import Apply, Plan
from slipstream_operator.core.revisions import Rollout
from slipstream_operator.names import Condition, Reason

_CONDITIONS: Final = (Condition.ACCEPTED, Condition.AVAILABLE, Condition.SLO_MET)
"""Conditions whose changes are posted as Events."""

_WARNINGS: Final = (Condition.FOREIGN_PODS, Condition.KEYS_REFUSED)
"""Conditions that are only there while something is wrong."""

_FAULTS: Final = (Reason.DECISION_FAILED, Reason.RECONCILE_FAILED)
"""Reasons that report a fault of the operator on one service's data."""

_BUILDS: Final = (Reason.BUILD_FAILED, Reason.BUILD_MISSING)
"""Reasons of ModelReady that need an action of the user."""

_SPECULATION: Final = {
    "speculationDisabled": Reason.SPECULATION_DISABLED,
    "speculationLoss": Reason.SPECULATION_NOT_FASTER,
}
"""Field of status.engine -> reason of the Event that is posted when the field appears."""

_REVISION_KIND: Final = "Service"
"""Kind of child whose creation and deletion mark those of a revision: its headless Service.
A workload can't mark them, since LeaderWorkerSets are polled and not watched."""


@dataclasses.dataclass(frozen=True)
class Event:
    """One Kubernetes Event on the user's object."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


def of_plan(plan: Plan) -> list[Event]:
    """Return the Events of a plan: revisions created and deleted, traffic moved, drift repaired."""
    found = []
    first = any(_is_public_service(step) and step.uid is None for step in plan.applies)
    for step in plan.applies:
        revision = step.manifest["metadata"]["labels"].get(names.REVISION_LABEL)
        if step.drifted:
            message = f"{step.ref}: {step.reason}. Restored the desired value."
            found.append(Event("Warning", Reason.DRIFT_REPAIRED, message))
        elif revision and step.ref.kind == _REVISION_KIND and step.uid is None and not first:
            message = f"Revision {revision} is starting."
            found.append(Event("Normal", Reason.REVISION_CREATED, message))
        elif _is_public_service(step) and step.uid is not None:
            active = step.manifest["spec"]["selector"].get(names.REVISION_LABEL)
            if active is None:
                message = "Moved traffic to the router."
                found.append(Event("Normal", Reason.ROUTER_ACTIVATED, message))
            else:
                found.append(_activated(active))
    found += [
        Event("Normal", Reason.REVISION_DELETED, f"Deleted revision {step.ref.name}.")
        for step in plan.deletes
        if step.ref.kind == _REVISION_KIND
    ]
    return found


def of_rollout(routed: str | None, service: str, rollout: Rollout) -> list[Event]:
    """Return the Event of traffic that the router moves.

    `routed` is the name of the revision that receives the traffic now.
    """
    if routed is None or not rollout.by_router or rollout.routed is None or rollout.canary:
        return []
    moves = routed != names.revision_name(service, rollout.routed)
    return [_activated(rollout.routed)] if moves else []


def _activated(revision: str) -> Event:
    return Event("Normal", Reason.REVISION_ACTIVATED, f"Moved traffic to revision {revision}.")


def _is_public_service(step: Apply) -> bool:
    """Whether the step applies the Service that clients connect to, created with the first revision."""
    labels = step.manifest["metadata"]["labels"]
    return step.ref.kind == "Service" and step.ref.name == labels.get(names.SERVICE_LABEL)


def of_status(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Event]:
    """Return the Events of a status change: conditions, speculation and replica count."""
    return [
        *_of_conditions(old, new),
        *of_fault(old, new),
        *_of_builds(old, new),
        *_of_speculation(old, new),
        *_of_scaling(old, new),
    ]


def of_fault(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Event]:
    """Return the Events of new faults of the operator itself, which concern this service alone."""
    before = {condition["reason"] for condition in old.get("conditions", [])}
    return [
        Event("Warning", condition["reason"], f"{condition['type']}: {condition['message']}")
        for condition in new.get("conditions", [])
        if condition["reason"] in _FAULTS and condition["reason"] not in before
    ]


def unrepeated(posts: Sequence[Event], others: Sequence[Event]) -> list[Event]:
    """Return the Events whose message is not part of another Event's message."""
    return [post for post in posts if not any(post.message in other.message for other in others)]


def _of_conditions(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Event]:
    before = {condition["type"]: condition for condition in old.get("conditions", [])}
    found = []
    for condition in new.get("conditions", []):
        known = before.get(condition["type"])
        changed = known is None or known["status"] != condition["status"]
        if condition["type"] in _WARNINGS and changed:
            found.append(Event("Warning", condition["reason"], condition["message"]))
        if condition["type"] not in _CONDITIONS or not changed or condition["status"] == "Unknown":
            continue
        good = condition["status"] == "True"
        expected_at_first = good if condition["type"] == Condition.ACCEPTED else not good
        if known is None and expected_at_first:
            continue
        message = f"{condition['type']}: {condition['message']}"
        normal = good or condition["reason"] == Reason.STOPPED
        found.append(Event("Normal" if normal else "Warning", condition["reason"], message))
    return found


def _of_builds(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Event]:
    """Return the Event of a build that failed or does not exist."""
    before = {condition["reason"] for condition in old.get("conditions", [])}
    return [
        Event("Warning", condition["reason"], condition["message"])
        for condition in new.get("conditions", [])
        if condition["type"] == Condition.MODEL_READY
        and condition["reason"] in _BUILDS
        and condition["reason"] not in before
    ]


def _of_speculation(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Event]:
    before, after = old.get("engine", {}), new.get("engine", {})
    return [
        Event("Warning", reason, after[field])
        for field, reason in _SPECULATION.items()
        if after.get(field) and not before.get(field)
    ]


def _of_scaling(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Event]:
    before, after = (status.get("scaling", {}).get("desired") for status in (old, new))
    if before is None or after is None or before == after:
        return []
    reason = Reason.SCALED_UP if after > before else Reason.SCALED_DOWN
    message = f"Scaled from {before} to {wording.replicas(after)}. {new['scaling']['reason']}"
    return [Event("Normal", reason, message)]
