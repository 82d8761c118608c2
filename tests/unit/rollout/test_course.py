"""Replicas, shares and the comparison of a rollout, from a snapshot of the cluster."""

import dataclasses
from typing import Any

import pytest

from slipstream_operator.core import quota, render, revisions, router_config, tick
from slipstream_operator.core.comparison.collection import Comparison
from slipstream_operator.core.observed import RouterState
from slipstream_operator.core.revisions import Canary, Revision
from slipstream_operator.core.rollout import course
from slipstream_operator.core.rollout.course import Course
from slipstream_operator.core.rollout.state import Phase, Progress, State
from tests.support import given
from tests.support.rollouts import cluster

STEPS = {"steps": ["10%", "50%"]}
OLD: dict[str, Any] = {"model": {"uri": "hf://org/old"}, "rollout": STEPS}
NEW: dict[str, Any] = {"model": {"uri": "hf://org/new"}, "rollout": STEPS}
A, B = given.identity(OLD), given.identity(NEW)


def follow(
    *,
    ready: int = 0,
    replicas: int = 4,
    state: State | None = None,
    share: quota.Share | None = None,
    **rollout: Any,
) -> tuple[Course, revisions.Rollout, dict[str, Any]]:
    """One look at a rollout: its course, its revisions, and the entry of the router."""
    entry = {"name": "chat", "revisions": [{"name": f"chat-{A}", "weight": 100}]}
    spec = {**NEW, "rollout": {**STEPS, **rollout}}
    observed = cluster(
        spec,
        serving=OLD,
        starting=NEW,
        pods=given.pods(A, 4) + given.pods(B, ready),
        router=RouterState(available=True, answers=True, entry=entry),
    )
    resolved = dataclasses.replace(given.resolved(spec), share=share)
    found = course.follow(
        Progress(state), observed, resolved, replicas=replicas, compared={}, now=given.MOMENT
    )
    rolled = revisions.roll_out(
        observed, resolved, replicas=replicas, now=given.MOMENT, canary=found.canary
    )
    listed = router_config.entry(resolved, rolled, kv_capacity=None)
    assert listed is not None
    return found, rolled, dict(listed.settings)


def test_a_canary_starts_without_a_weight_beside_all_old_replicas() -> None:
    found, rolled, entry = follow()
    assert found.canary == Canary(A, B, 0, 4, 1)
    assert rolled.revisions == (Revision(A, 4), Revision(B, 1))
    assert (rolled.active, rolled.wanted, rolled.by_router) == (A, B, True)
    assert [each["weight"] for each in entry["revisions"]] == [100, 0]


def test_a_step_has_its_weights_and_a_comparison_under_them() -> None:
    found, _, entry = follow(ready=1)
    assert [each["weight"] for each in entry["revisions"]] == [90, 10]
    assert found.canary is not None
    assert found.canary.comparison == Comparison(A, B, {A: 90, B: 10}, since=given.MOMENT)
    assert [event.reason for event in found.events] == ["RolloutStep"]


def test_a_rejected_revision_has_no_pods_and_no_entry() -> None:
    rejected = State(A, B, since=0.0, phase=Phase.REJECTED, step=0)
    found, rolled, entry = follow(ready=1, state=rejected)
    assert rolled.revisions == (Revision(A, 4),)
    assert (rolled.wanted, rolled.rejected) == (A, True)
    assert [each["name"] for each in entry["revisions"]] == [f"chat-{A}"]
    assert found.canary is not None
    assert found.canary.comparison is None


@pytest.mark.parametrize("surge", [None, 0, 1, 2])
@pytest.mark.parametrize("ready", [0, 1, 2, 4])
@pytest.mark.parametrize("step", [-1, 0, 1])
def test_the_running_replicas_of_a_service_are_those_that_it_had_before_the_rollout(
    surge: int | None, ready: int, step: int
) -> None:
    rollout = {**STEPS, **({} if surge is None else {"surge": surge})}
    state = State(A, B, since=0.0, step=step, passed=step < 0)
    _, rolled, _ = follow(ready=ready, state=state, **rollout)
    observed = cluster({**NEW, "rollout": rollout}, serving=OLD, starting=NEW)
    resolved = given.resolved(observed.parent.spec)
    manifests = render.render(observed, resolved, rolled, state={})
    applied = dataclasses.replace(observed, children=tuple(map(given.child, manifests)))
    assert tick.running(applied, resolved) == 4


@pytest.mark.parametrize(
    ("share", "rollout", "expected"),
    [
        (quota.Share(4, surge=4), {}, (4, 1)),
        (quota.Share(4, surge=0), {}, (4, 0)),
        (quota.Share(4, surge=0), {"surge": 0}, (3, 1)),
    ],
    ids=["with room", "without room", "without room and without surge"],
)
def test_a_quota_bounds_both_revisions_together(
    share: quota.Share, rollout: dict[str, Any], expected: tuple[int, int]
) -> None:
    _, rolled, _ = follow(share=share, **rollout)
    assert tuple(revision.replicas for revision in rolled.revisions) == expected
