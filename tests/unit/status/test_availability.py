"""Available and Ready: every reason, at zero, and behind a router."""

import dataclasses
from typing import Any

import pytest

from slipstream_operator.core import revisions, status
from slipstream_operator.core.observed import ObservedPod, Ref, RouterState
from slipstream_operator.core.scaling.state import Decision
from tests.support import given
from tests.support.statuses import (
    UNSCHEDULABLE,
    A,
    bounded,
    observe,
    reconciled,
    summarize,
    verdict,
)

EVICTED = given.pod(A, name="evicted", ready=False, phase="Failed", trouble=("Evicted", "too much"))

AVAILABLE: dict[str, tuple[tuple[ObservedPod, ...], dict[str, Any], tuple[str, str, str]]] = {
    "ready": (given.pods(A, 1), {}, ("True", "EnginesReady", "The engine is ready.")),
    "some ready": (
        (*given.pods(A, 1), given.pod(A, name="late", ready=False)),
        {},
        ("True", "EnginesReady", "1 of 2 engines is ready."),
    ),
    "a name that others hold": (
        given.pods(A, 1),
        {"conflicts": (Ref("Service", "team", "chat"), Ref("ConfigMap", "team", "chat-state"))},
        (
            "False",
            "NameConflict",
            (
                "Service chat and ConfigMap chat-state already exist and belong to other owners. Delete or rename "
                "them, or rename this object."
            ),
        ),
    ),
    "refused": (
        given.pods(A, 1),
        {"failures": ("Deployment x was refused: 403", "Service y was refused: 422")},
        (
            "False",
            "Rejected",
            "Deployment x was refused: 403; Service y was refused: 422",
        ),
    ),
    "stopped": (
        (),
        bounded(0, 0, follows_load=False),
        ("False", "Stopped", "The service is stopped because spec.replicas is 0."),
    ),
    "nothing there": ((), {}, ("False", "Pending", "No engine exists yet.")),
    "starting": (
        given.pods(A, 2, ready=False),
        {},
        ("False", "Starting", "0 of 2 engines are ready."),
    ),
    "in trouble": (
        (given.pod(A, ready=False, trouble=UNSCHEDULABLE),),
        {},
        ("False", *UNSCHEDULABLE),
    ),
    "the newest pod in trouble speaks": (
        (
            given.pod(A, name="new", ready=False, created=given.NOW, trouble=UNSCHEDULABLE),
            given.pod(A, name="old", ready=False, trouble=("EngineFailed", "old news")),
        ),
        {},
        ("False", *UNSCHEDULABLE),
    ),
    "a ready pod's old trouble is over": (
        (
            given.pod(A, name="a", trouble=("EngineFailed", "once")),
            given.pod(A, name="b", ready=False),
        ),
        {},
        ("True", "EnginesReady", "1 of 2 engines is ready."),
    ),
    "only pods that are being deleted": (
        (given.pod(A, deleting=True),),
        {},
        ("False", "Pending", "No engine exists yet."),
    ),
    "evicted, before another exists": (
        (EVICTED,),
        {},
        ("False", "Evicted", "Pod evicted: too much"),
    ),
    "evicted, and another starts": (
        (EVICTED, given.pod(A, ready=False, created=given.CREATED)),
        {},
        ("False", "Evicted", "Pod evicted: too much"),
    ),
    "evicted a day before a service at zero woke": (
        (EVICTED, given.pod(A, ready=False, created=given.NOW)),
        {},
        ("False", "Starting", "The engine is not ready yet."),
    ),
    "evicted, and another may not be made": (
        (EVICTED,),
        {"refused": "exceeded quota: team"},
        ("False", "CreateFailed", "exceeded quota: team"),
    ),
    "evicted, and another finds no place": (
        (EVICTED, given.pod(A, ready=False, created=given.NOW, trouble=UNSCHEDULABLE)),
        {},
        ("False", *UNSCHEDULABLE),
    ),
    "evicted long ago": (
        (
            EVICTED,
            given.pod(A, name="b", created=given.NOW),
            given.pod("other", name="c", ready=False),
        ),
        {"rollout": revisions.Rollout("other", "other", (revisions.Revision("other", 1),))},
        ("False", "Starting", "0 of 2 engines are ready."),
    ),
    "preempted": (
        (given.pod(A, ready=False, deleting=True, trouble=("Preempted", "by others")),),
        {},
        ("False", "Preempted", f"Pod chat-{A}-0: by others"),
    ),
    "ready pods of a revision that has no traffic": (
        given.pods("other", 1),
        {},
        ("False", "Starting", "The engine is not ready yet."),
    ),
}


@pytest.mark.parametrize(("pods", "fields", "expected"), AVAILABLE.values(), ids=AVAILABLE)
def test_available(
    pods: tuple[ObservedPod, ...], fields: dict[str, Any], expected: tuple[str, str, str]
) -> None:
    assert verdict(summarize(pods=pods, **fields), "Available") == expected


def test_pods_that_have_ended_are_no_replicas() -> None:
    found = summarize(pods=(*given.pods(A, 1), EVICTED, dataclasses.replace(EVICTED, name="b")))
    assert (found["replicas"], found["readyReplicas"]) == (1, 1)
    assert verdict(found, "Available") == ("True", "EnginesReady", "The engine is ready.")
    assert verdict(found, "Reconciling") is None


def test_pods_that_are_being_deleted_are_no_replicas() -> None:
    leaving = given.pod(A, name="leaving", deleting=True)  # still Ready, until it has drained
    found = summarize(pods=(*given.pods(A, 1), leaving))
    assert (found["replicas"], found["readyReplicas"]) == (1, 1)
    assert verdict(found, "Reconciling") is None


def test_a_service_that_the_user_stopped_is_as_the_user_wants_it() -> None:
    found = summarize(
        pods=(given.pod(A, deleting=True), EVICTED),
        rollout=revisions.Rollout(A, A, (revisions.Revision(A, 0),), by_router=True),
        **bounded(0, 0, follows_load=False),
    )
    assert verdict(found, "Ready") == (
        "True",
        "Stopped",
        "The service is stopped because spec.replicas is 0. No engine runs.",
    )
    assert verdict(found, "Available") == (
        "False",
        "Stopped",
        "The service is stopped because spec.replicas is 0.",
    )
    assert verdict(found, "Reconciling") is None
    assert verdict(found, "Stalled") is None


def test_a_stop_is_in_progress_until_its_engines_end() -> None:
    stopping = {
        "rollout": revisions.Rollout(A, A, (revisions.Revision(A, 0),), by_router=True),
        **bounded(0, 0, follows_load=False),
    }
    found = verdict(summarize(pods=given.pods(A, 2, ready=False), **stopping), "Reconciling")
    assert found == ("True", "Starting", "Stopping 2 of 2 engines.")


def test_a_stopped_service_whose_objects_are_refused_is_not_ready() -> None:
    refused = bounded(0, 0, follows_load=False) | {"failures": ("Service x was refused: 403",)}
    ready = verdict(summarize(pods=(), **refused), "Ready")
    assert ready == ("False", "Rejected", "Service x was refused: 403")


def test_while_a_lost_engine_is_replaced_status_says_why() -> None:
    lost = dataclasses.replace(EVICTED, gone_at=given.NOW)
    pods = (*given.pods(A, 1), lost, given.pod(A, name="new", ready=False, created=given.NOW))
    rollout = revisions.Rollout(A, A, (revisions.Revision(A, 2),), by_router=True)
    found = verdict(summarize(pods=pods, rollout=rollout), "Reconciling")
    assert found == ("True", "Starting", "1 of 2 engines is ready. Evicted: Pod evicted: too much")


def test_model_ready_and_ready_say_why_not() -> None:
    found = summarize(pods=(given.pod(A, ready=False, trouble=UNSCHEDULABLE),))
    assert verdict(found, "ModelReady") == ("False", "NotLoaded", UNSCHEDULABLE[1])
    assert verdict(found, "Ready") == ("False", *UNSCHEDULABLE)


def test_engines_behind_a_name_that_others_hold_are_not_ready() -> None:
    found = summarize(conflicts=(Ref("Service", "team", "chat"),))
    ready = verdict(found, "Ready")
    assert ready is not None
    assert ready[:2] == ("False", "NameConflict")


AT_ZERO: dict[str, Any] = {
    **bounded(0, 4),
    "decision": Decision(0, "nobody asked for 15m", known=True),
}


def test_at_zero_a_service_is_available_and_ready() -> None:
    found = summarize(pods=(), **AT_ZERO)
    assert verdict(found, "Available") == (
        "True",
        "ScaledToZero",
        "The service is scaled to zero. The router holds the next request until a replica is ready.",
    )
    for kind, reason in (("ModelReady", "ScaledToZero"), ("Ready", "EnginesReady")):
        condition = verdict(found, kind)
        assert condition is not None
        assert condition[:2] == ("True", reason)


@pytest.mark.parametrize("fields", [{}, {"pods": (), **AT_ZERO}], ids=["engines", "at zero"])
@pytest.mark.parametrize(
    ("trouble", "told"), [(None, "None of its pods is ready."), ("quota", "quota")]
)
def test_behind_a_router_that_is_down_nothing_is_available(
    fields: dict[str, Any], trouble: str | None, told: str
) -> None:
    pods = fields.get("pods", given.pods(A, 1))
    observed = dataclasses.replace(
        observe(pods=pods), router=RouterState(available=False, trouble=trouble)
    )
    rest = {key: value for key, value in fields.items() if key != "pods"}
    found = status.summarise(observed, reconciled(**rest), now=given.NOW)
    assert verdict(found, "Available") == (
        "False",
        "RouterNotReady",
        f"Deployment slipstream-router: {told}",
    )


def test_one_router_of_two_is_enough_to_be_available() -> None:
    observed = dataclasses.replace(
        observe(pods=given.pods(A, 1)), router=RouterState(available=False, answers=True)
    )
    found = status.summarise(observed, reconciled(), now=given.NOW)
    condition = verdict(found, "Available")
    assert condition is not None
    assert condition[:2] == ("True", "EnginesReady")
