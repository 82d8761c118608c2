"""Happenings: Events for transitions, and none for a state that lasts."""

import dataclasses
from typing import Any

import pytest

from slipstream_operator.core import happenings, plan
from slipstream_operator.core.happenings import Happening
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
    return plan.Delete(plan.reference(manifest), "uid", "no longer wanted")


PLANS: dict[str, tuple[plan.Plan, list[Happening]]] = {
    "nothing": (plan.Plan(), []),
    "the first revision": (
        plan.Plan(tuple(_apply(each, uid=None, reason="missing") for each in (HEADLESS, SERVICE))),
        [],
    ),
    "another revision": (
        plan.Plan(
            tuple(_apply(each, uid=None, reason="missing") for each in (HEADLESS, DEPLOYMENT))
        ),
        [Happening("Normal", "RevisionCreated", f"revision {HASH} starts")],
    ),
    "a deployment that is scaled": (plan.Plan((_apply(DEPLOYMENT),)), []),
    "a service that moves": (
        plan.Plan((_apply(SERVICE),)),
        [Happening("Normal", "RevisionActivated", f"revision {HASH} takes the traffic")],
    ),
    "a service that moves to the router": (
        plan.Plan((_apply(given.find(ROUTED, "Service", name=given.NAME)),)),
        [Happening("Normal", "RouterActivated", "the router takes the traffic")],
    ),
    "drift": (
        plan.Plan((_apply(DEPLOYMENT, reason="spec.replicas was edited"),)),
        [
            Happening(
                "Warning",
                "DriftRepaired",
                f"Deployment chat-{HASH}: spec.replicas was edited, restored",
            )
        ],
    ),
    "a revision that goes": (
        plan.Plan(
            deletes=tuple(
                _delete(given.find(DESIRED, kind, name=f"chat-{HASH}"))
                for kind in ("Deployment", "Service", "ConfigMap")
            )
        ),
        [Happening("Normal", "RevisionDeleted", f"revision chat-{HASH} is no longer wanted")],
    ),
}


@pytest.mark.parametrize(("steps", "expected"), PLANS.values(), ids=PLANS)
def test_what_a_plan_tells(steps: plan.Plan, expected: list[Happening]) -> None:
    assert happenings.of_plan(steps) == expected


def _status(*, desired: int | None = None, **conditions: str) -> dict[str, Any]:
    found: dict[str, Any] = {
        "conditions": [
            {"type": kind, "status": value, "reason": "Why", "message": "because"}
            for kind, value in conditions.items()
        ]
    }
    if desired is not None:
        found["scaling"] = {"desired": desired, "reason": "load grew"}
    return found


def _told(kind: str, condition: str) -> Happening:
    return Happening(kind, "Why", f"{condition}: because")  # type: ignore[arg-type]


STATUSES: dict[str, tuple[dict[str, Any], dict[str, Any], list[Happening]]] = {
    "a state that lasts": (_status(Available="False"), _status(Available="False"), []),
    "it becomes available": (
        _status(Available="False"),
        _status(Available="True"),
        [_told("Normal", "Available")],
    ),
    "it stops being available": (
        _status(Available="True"),
        _status(Available="False"),
        [_told("Warning", "Available")],
    ),
    "an objective is missed": (
        _status(SLOMet="Unknown"),
        _status(SLOMet="False"),
        [_told("Warning", "SLOMet")],
    ),
    "traffic ends": (_status(SLOMet="True"), _status(SLOMet="Unknown"), []),
    "a new object is accepted": ({}, _status(Accepted="True"), []),
    "a new object is refused": ({}, _status(Accepted="False"), [_told("Warning", "Accepted")]),
    "a new object is not available yet": ({}, _status(Available="False"), []),
    "other conditions": (_status(Ready="False"), _status(Ready="True"), []),
    "more replicas": (
        _status(desired=1),
        _status(desired=3),
        [Happening("Normal", "ScaledUp", "from 1 to 3: load grew")],
    ),
    "fewer replicas": (
        _status(desired=3),
        _status(desired=1),
        [Happening("Normal", "ScaledDown", "from 3 to 1: load grew")],
    ),
    "speculation is switched off": (
        {},
        {"engine": {"speculationDisabled": "it guesses badly"}},
        [Happening("Warning", "SpeculationDisabled", "it guesses badly")],
    ),
    "speculation makes decoding slower": (
        {"engine": {"speculationGain": "at most 0.66"}},
        {"engine": {"speculationGain": "at most 0.66", "speculationLoss": "it is slower"}},
        [Happening("Warning", "SpeculationLoses", "it is slower")],
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
def test_what_a_status_tells(
    old: dict[str, Any], new: dict[str, Any], expected: list[Happening]
) -> None:
    assert happenings.of_status(old, new) == expected


ROLLOUT = Rollout("new", "new", (), by_router=True, routed="new")
MOVES: dict[str, tuple[str | None, Rollout, list[Happening]]] = {
    "nothing is recorded yet": (None, ROLLOUT, []),
    "it is there already": ("chat-new", ROLLOUT, []),
    "it moves": (
        "chat-old",
        ROLLOUT,
        [Happening("Normal", "RevisionActivated", "revision new takes the traffic")],
    ),
    "the Service selects the engines": (
        "chat-old",
        dataclasses.replace(ROLLOUT, by_router=False),
        [],
    ),
}


@pytest.mark.parametrize(("recorded", "rollout", "told"), MOVES.values(), ids=MOVES)
def test_traffic_that_the_router_moves_is_told(
    recorded: str | None, rollout: Rollout, told: list[Happening]
) -> None:
    assert happenings.of_rollout(recorded, "chat", rollout) == told
