"""Events are posted for transitions, and none for a state that lasts."""

import dataclasses
from typing import Any

import pytest

from slipstream_operator.core import events, plan
from slipstream_operator.core.events import Event
from slipstream_operator.core.revisions import Rollout
from tests.support import given

DIRECT: dict[str, Any] = {"model": given.MODEL, "routing": {"mode": "Direct"}}
DESIRED = given.rendered(given.observed(DIRECT))
ROUTED = given.rendered(given.observed())
HASH = given.identity(DIRECT)
SERVICE = given.find(DESIRED, "Service", name=given.NAME)
HEADLESS = given.find(DESIRED, "Service", name=f"chat-{HASH}")
DEPLOYMENT = given.find(DESIRED, "Deployment")


def _apply(manifest: Any, *, uid: str | None = "uid", reason: str = "changed") -> plan.Apply:
    drifted = reason.endswith("edited")
    return plan.Apply(plan.reference(manifest), manifest, uid, reason, drifted=drifted)


def _delete(manifest: Any) -> plan.Delete:
    return plan.Delete(plan.reference(manifest), "uid", "no longer desired")


PLANS: dict[str, tuple[plan.Plan, list[Event]]] = {
    "nothing": (plan.Plan(), []),
    "the first revision": (
        plan.Plan(tuple(_apply(each, uid=None, reason="missing") for each in (HEADLESS, SERVICE))),
        [],
    ),
    "another revision": (
        plan.Plan(
            tuple(_apply(each, uid=None, reason="missing") for each in (HEADLESS, DEPLOYMENT))
        ),
        [Event("Normal", "RevisionCreated", f"Revision {HASH} is starting.")],
    ),
    "a deployment that is scaled": (plan.Plan((_apply(DEPLOYMENT),)), []),
    "a service that selects another revision": (
        plan.Plan((_apply(SERVICE),)),
        [Event("Normal", "RevisionActivated", f"Moved traffic to revision {HASH}.")],
    ),
    "a service that selects the router": (
        plan.Plan((_apply(given.find(ROUTED, "Service", name=given.NAME)),)),
        [Event("Normal", "RouterActivated", "Moved traffic to the router.")],
    ),
    "drift": (
        plan.Plan((_apply(DEPLOYMENT, reason="spec.replicas was edited"),)),
        [
            Event(
                "Warning",
                "DriftRepaired",
                f"Deployment chat-{HASH}: spec.replicas was edited. Restored the desired value.",
            )
        ],
    ),
    "a revision that is deleted": (
        plan.Plan(
            deletes=tuple(
                _delete(given.find(DESIRED, kind, name=f"chat-{HASH}"))
                for kind in ("Deployment", "Service", "ConfigMap")
            )
        ),
        [Event("Normal", "RevisionDeleted", f"Deleted revision chat-{HASH}.")],
    ),
}


@pytest.mark.parametrize(("steps", "expected"), PLANS.values(), ids=PLANS)
def test_events_of_a_plan(steps: plan.Plan, expected: list[Event]) -> None:
    assert events.of_plan(steps) == expected


def _status(*, desired: int | None = None, **conditions: str) -> dict[str, Any]:
    found: dict[str, Any] = {
        "conditions": [
            {"type": kind, "status": value, "reason": "Why", "message": "because"}
            for kind, value in conditions.items()
        ]
    }
    if desired is not None:
        found["scaling"] = {"desired": desired, "reason": "The load grew."}
    return found


def _event(kind: str, condition: str) -> Event:
    return Event(kind, "Why", f"{condition}: because")  # type: ignore[arg-type]


STATUSES: dict[str, tuple[dict[str, Any], dict[str, Any], list[Event]]] = {
    "a state that lasts": (_status(Available="False"), _status(Available="False"), []),
    "it becomes available": (
        _status(Available="False"),
        _status(Available="True"),
        [_event("Normal", "Available")],
    ),
    "it stops being available": (
        _status(Available="True"),
        _status(Available="False"),
        [_event("Warning", "Available")],
    ),
    "an objective is missed": (
        _status(SLOMet="Unknown"),
        _status(SLOMet="False"),
        [_event("Warning", "SLOMet")],
    ),
    "traffic ends": (_status(SLOMet="True"), _status(SLOMet="Unknown"), []),
    "a new object is accepted": ({}, _status(Accepted="True"), []),
    "a new object is refused": ({}, _status(Accepted="False"), [_event("Warning", "Accepted")]),
    "a new object is not available yet": ({}, _status(Available="False"), []),
    "other conditions": (_status(Ready="False"), _status(Ready="True"), []),
    "more replicas": (
        _status(desired=1),
        _status(desired=3),
        [Event("Normal", "ScaledUp", "Scaled from 1 to 3 replicas. The load grew.")],
    ),
    "fewer replicas": (
        _status(desired=3),
        _status(desired=1),
        [Event("Normal", "ScaledDown", "Scaled from 3 to 1 replica. The load grew.")],
    ),
    "speculation is switched off": (
        {},
        {"engine": {"speculationDisabled": "few drafts were accepted"}},
        [Event("Warning", "SpeculationDisabled", "few drafts were accepted")],
    ),
    "speculation makes decoding slower": (
        {"engine": {"speculationGain": "1.00"}},
        {"engine": {"speculationGain": "1.00", "speculationLoss": "it is slower"}},
        [Event("Warning", "SpeculationNotFaster", "it is slower")],
    ),
    "speculation is still slower": (
        {"engine": {"speculationLoss": "it is slower"}},
        {"engine": {"speculationLoss": "it is slower"}},
        [],
    ),
    "the first count": ({}, _status(desired=1), []),
    "the same count": (_status(desired=1), _status(desired=1), []),
}


@pytest.mark.parametrize(("old", "new", "expected"), STATUSES.values(), ids=STATUSES)
def test_events_of_a_status_change(
    old: dict[str, Any], new: dict[str, Any], expected: list[Event]
) -> None:
    assert events.of_status(old, new) == expected


ROLLOUT = Rollout("new", "new", (), by_router=True, routed="new")
MOVES: dict[str, tuple[str | None, Rollout, list[Event]]] = {
    "the router has no entry yet": (None, ROLLOUT, []),
    "the router sends traffic there already": ("chat-new", ROLLOUT, []),
    "the router moves traffic": (
        "chat-old",
        ROLLOUT,
        [Event("Normal", "RevisionActivated", "Moved traffic to revision new.")],
    ),
    "the Service selects the engines": (
        "chat-old",
        dataclasses.replace(ROLLOUT, by_router=False),
        [],
    ),
}


@pytest.mark.parametrize(("routed", "rollout", "expected"), MOVES.values(), ids=MOVES)
def test_an_event_is_posted_when_the_router_moves_traffic(
    routed: str | None, rollout: Rollout, expected: list[Event]
) -> None:
    assert events.of_rollout(routed, "chat", rollout) == expected
