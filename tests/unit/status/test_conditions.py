"""SLOMet, ScalingActive, Reconciling and Stalled: every reason."""

import dataclasses
from typing import Any

import pytest

from slipstream_operator.core import revisions, status
from slipstream_operator.core.observed import ObservedPod
from slipstream_operator.core.scaling.state import Decision
from slipstream_operator.core.status.outcome import Outcome
from slipstream_operator.errors import PermanentError
from tests.support import given
from tests.support.statuses import (
    ROLLING,
    UNSCHEDULABLE,
    A,
    bounded,
    measure,
    observe,
    reconciled,
    summarize,
    verdict,
)


def test_foreign_pods_are_a_condition_while_there_are_any() -> None:
    observed = observe(pods=given.pods(A, 1))
    assert verdict(status.summarise(observed, reconciled(), now=given.NOW), "ForeignPods") is None
    router = dataclasses.replace(observed.router, foreign=("a-router",))
    observed = dataclasses.replace(observed, foreign=("an-engine",), router=router)
    found = status.summarise(observed, reconciled(), now=given.NOW)
    kind, reason, message = verdict(found, "ForeignPods") or ("", "", "")
    assert (kind, reason) == ("True", "ForeignPods")
    assert "a-router, an-engine" in message
    past_it = dataclasses.replace(reconciled().rollout, by_router=False)
    past = status.summarise(observed, reconciled(rollout=past_it), now=given.NOW)
    assert "a-router" not in (verdict(past, "ForeignPods") or ("", "", ""))[2]


def test_another_foreign_pod_is_written_at_once() -> None:
    observed = observe(pods=given.pods(A, 1))
    one, two = (
        status.summarise(dataclasses.replace(observed, foreign=found), reconciled(), now=given.NOW)
        for found in (("a",), ("a", "b"))
    )
    assert status.worth_writing(one, two, since_last_write=0)


REJECTED = PermanentError("InvalidSpec", "spec.x: is wrong")

SLO: dict[str, tuple[dict[str, Any], tuple[str, str, str]]] = {
    "met": (
        {"measured": measure(given.reading(current=0.25))},
        ("True", "Met", "ttft-p95 is 250ms (target: 500ms)."),
    ),
    "missed": (
        {"measured": measure(given.reading(current=0.75))},
        ("False", "Missed", "ttft-p95 is 750ms (target: 500ms)."),
    ),
    "infeasible": (
        {
            "measured": measure(given.reading(current=0.75)),
            "decision": Decision(1, "why", known=True, infeasible="no count helps"),
        },
        ("False", "Infeasible", "no count helps"),
    ),
    "no traffic": (
        {"measured": measure(given.reading(current=None, requests=0.0))},
        ("Unknown", "NoTraffic", "There are too few requests to evaluate the objectives."),
    ),
    "little traffic": (
        {"measured": measure(given.reading(current=9.0, requests=4.0))},
        ("Unknown", "NoTraffic", "There are too few requests to evaluate the objectives."),
    ),
    "no metrics": (
        {"measured": measure(unknown="Prometheus did not answer")},
        ("Unknown", "NoMetrics", "Prometheus did not answer."),
    ),
    "not yet measured": (
        {"measured": None},
        ("Unknown", "NoMetrics", "There are no measurements yet."),
    ),
    "no objectives": (
        {"resolved": given.resolved()},
        ("Unknown", "NoObjectives", "spec.slo sets no latency objective."),
    ),
}


@pytest.mark.parametrize(("fields", "expected"), SLO.values(), ids=SLO)
def test_slo_met(fields: dict[str, Any], expected: tuple[str, str, str]) -> None:
    found = summarize(**fields)
    assert verdict(found, "SLOMet") == expected
    ready = verdict(found, "Ready")
    assert ready is not None
    assert ready[0] == "True"  # a missed objective must not fail a sync wave


SCALING: dict[str, tuple[dict[str, Any], tuple[str, str]]] = {
    "following": ({}, ("True", "FollowingLoad")),
    "recommending": (bounded(1, 4, recommend=True), ("True", "Recommending")),
    "paused": (bounded(1, 4, paused=True), ("False", "Paused")),
    "fixed": (bounded(2, 2, follows_load=False), ("False", "FixedReplicas")),
    "holding": ({"decision": Decision(1, "holding 1", known=False)}, ("False", "Holding")),
    "undecided": ({"decision": None}, ("Unknown", "Pending")),
}


@pytest.mark.parametrize(("fields", "expected"), SCALING.values(), ids=SCALING)
def test_scaling_active(fields: dict[str, Any], expected: tuple[str, str]) -> None:
    found = verdict(summarize(**fields), "ScalingActive")
    assert found is not None
    assert found[:2] == expected


PROGRESS: dict[str, tuple[tuple[ObservedPod, ...], dict[str, Any], tuple[str, str, str] | None]] = {
    "as desired": (given.pods(A, 1), {}, None),
    "starting": (
        given.pods(A, 1, ready=False),
        {},
        ("True", "Starting", "The engine is not ready yet."),
    ),
    "waiting for a node": (
        (*given.pods(A, 1), given.pod(A, name="b", ready=False, trouble=UNSCHEDULABLE)),
        {"rollout": revisions.Rollout(A, A, (revisions.Revision(A, 2),), by_router=True)},
        ("True", "Starting", f"1 of 2 engines is ready. Unschedulable: {UNSCHEDULABLE[1]}"),
    ),
    "too many": (given.pods(A, 2), {}, ("True", "Starting", "Stopping 1 of 2 engines.")),
    "rolling out": (
        given.pods(A, 1) + given.pods("b", 1, ready=False),
        {"rollout": ROLLING},
        ("True", "RollingOut", f"Revision b is starting while revision {A} serves requests."),
    ),
    "a rollout whose trouble is over": (
        (*given.pods(A, 1), given.pod("b", trouble=UNSCHEDULABLE)),
        {"rollout": ROLLING},
        ("True", "RollingOut", f"Revision b is starting while revision {A} serves requests."),
    ),
    "a rollout in trouble": (
        (*given.pods(A, 1), given.pod("b", ready=False, trouble=UNSCHEDULABLE)),
        {"rollout": ROLLING},
        (
            "True",
            "RollingOut",
            f"Revision b is starting while revision {A} serves requests. Unschedulable: 0/3 nodes have a GPU",
        ),
    ),
}


@pytest.mark.parametrize(("pods", "fields", "expected"), PROGRESS.values(), ids=PROGRESS)
def test_reconciling_is_present_only_while_true(
    pods: tuple[ObservedPod, ...], fields: dict[str, Any], expected: tuple[str, str, str] | None
) -> None:
    found = summarize(pods=pods, **fields)
    assert verdict(found, "Reconciling") == expected
    assert verdict(found, "Stalled") is None


def _rejected(old: Any = None) -> Any:
    outcome = Outcome(rejected=REJECTED)
    observed = observe(pods=given.pods(A, 1), old=old)
    return status.summarise(observed, outcome, now=given.NOW)


def test_what_is_not_accepted_is_stalled_and_not_ready() -> None:
    found = _rejected()
    expected = ("InvalidSpec", "spec.x: is wrong")
    assert verdict(found, "Accepted") == ("False", *expected)
    assert verdict(found, "Ready") == ("False", *expected)
    assert verdict(found, "Stalled") == ("True", *expected)
    assert verdict(found, "Reconciling") is None


def test_what_is_not_accepted_goes_on_serving() -> None:
    available = verdict(_rejected(), "Available")
    assert available is not None
    assert available[0] == "True"


def test_what_is_not_accepted_keeps_its_numbers() -> None:
    old = summarize()
    found = _rejected(old)
    assert {key: found[key] for key in ("slo", "scaling", "engine")} == {
        key: old[key] for key in ("slo", "scaling", "engine")
    }


def test_a_service_that_waits_for_the_router_says_so() -> None:
    rollout = revisions.Rollout(A, A, (revisions.Revision(A, 1),), by_router=False, routed=A)
    condition = verdict(summarize(rollout=rollout), "Reconciling")
    assert condition is not None
    assert condition[:2] == ("True", "RouterNotReady")


def test_a_profile_without_prometheus_is_reported_at_once_with_a_remedy() -> None:
    spec = {"model": given.MODEL, "slo": {"ttft": {"p95": "500ms"}}, "scaling": {"maxReplicas": 4}}
    resolved = given.resolved(spec, profiles=[given.profile(without=["prometheus"])])
    assert resolved.bounds.follows_load
    found = summarize(resolved=resolved, decision=None, measured=None)
    for kind, status_ in (("ScalingActive", "False"), ("SLOMet", "Unknown")):
        said = verdict(found, kind)
        assert said is not None
        assert said[:2] == (status_, "NoPrometheus")
        assert "Set spec.prometheus.url in the profile." in said[2]
