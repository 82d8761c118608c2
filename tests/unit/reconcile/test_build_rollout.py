"""Rollouts of services whose model is made by a ModelBuild."""

import dataclasses
from typing import Any

import pytest

from slipstream_operator.core import resolve, revisions
from slipstream_operator.core.observed import BuildView, Observed
from slipstream_operator.core.revisions import Revision, Rollout
from tests.support import given
from tests.support.rollouts import DIRECT, OLD, A, only

BUILD: dict[str, Any] = {"model": {"uri": "build://small"}, **DIRECT}
OTHER: dict[str, Any] = {"model": {"uri": "build://other"}, **DIRECT}
FIRST = given.build()
SECOND = given.build(digest="b" * 64)
RUNNING = given.build(None)
FAILED = given.build(None, phase="Failed")
SMALL = given.identity(BUILD, builds=[FIRST])


def serving(
    served: dict[str, Any], spec: dict[str, Any], *builds: BuildView, by: BuildView = FIRST
) -> Observed:
    """A service whose engines serve `served`, and whose spec is another one now."""
    before = given.observed(served, builds=[by])
    revision = revisions.identity(resolve.resolve(before).revisioned)
    children = given.realised(before).children
    return given.observed(
        spec, builds=builds, children=children, pods=given.pods(revision, 1), router=None
    )


def roll_out(observed: Observed) -> Rollout:
    decided = resolve.resolve(observed)
    return revisions.roll_out(observed, decided, replicas=1, now=given.MOMENT)


@pytest.mark.parametrize("builds", [(), (RUNNING,), (FAILED,)])
def test_a_service_that_has_served_nothing_has_no_revision_before_its_build(
    builds: tuple[BuildView, ...],
) -> None:
    observed = given.observed(BUILD, builds=builds)
    assert revisions.wanted_revision(observed, resolve.resolve(observed)) is None


@pytest.mark.parametrize("builds", [(), (RUNNING,), (FAILED,)])
def test_what_served_before_goes_on_while_the_build_is_not_ready(
    builds: tuple[BuildView, ...],
) -> None:
    assert roll_out(serving(OLD, BUILD, *builds)) == only(A)


def test_the_revision_of_the_build_starts_beside_it_once_it_is_ready() -> None:
    expected = Rollout(A, SMALL, (Revision(A, 1), Revision(SMALL, 1)))
    assert roll_out(serving(OLD, BUILD, FIRST)) == expected


def test_another_build_that_becomes_ready_under_the_name_rolls() -> None:
    again = given.identity(BUILD, builds=[SECOND])
    assert roll_out(serving(BUILD, BUILD, RUNNING)) == only(SMALL)
    assert roll_out(serving(BUILD, BUILD, SECOND)) == Rollout(
        SMALL, again, (Revision(SMALL, 1), Revision(again, 1))
    )


def test_the_same_artifact_made_again_rolls_nothing() -> None:
    assert roll_out(serving(BUILD, BUILD, FIRST)) == only(SMALL)


def test_a_spec_that_names_another_build_rolls_when_that_is_ready() -> None:
    other = dataclasses.replace(SECOND, name="other", artifact="pvc://artifacts/other")
    assert roll_out(serving(BUILD, OTHER, FIRST)) == only(SMALL)
    rollout = roll_out(serving(BUILD, OTHER, FIRST, other))
    assert rollout.active == SMALL
    assert rollout.wanted == given.identity(OTHER, builds=[other])


def test_a_deleted_build_changes_nothing_for_its_revision() -> None:
    assert roll_out(serving(BUILD, BUILD)) == only(SMALL)


def test_the_revision_of_a_deleted_build_is_restored_as_it_was() -> None:
    snapshot = serving(BUILD, BUILD)
    ready = given.observed(BUILD, builds=[FIRST])
    assert given.rendered(snapshot) == given.rendered(ready)


def test_other_settings_wait_with_a_build_that_runs_and_change_without_it() -> None:
    changed = {**BUILD, "batching": {"maxSequences": 8}}
    assert roll_out(serving(BUILD, changed, RUNNING)) == only(SMALL)
    rollout = roll_out(serving(BUILD, changed))
    assert (rollout.active, rollout.wanted) == (SMALL, given.identity(changed, builds=[FIRST]))


def test_a_service_at_zero_keeps_its_revision_while_the_build_runs() -> None:
    scaled = {"model": given.MODEL, "scaling": {"minReplicas": 0, "maxReplicas": 2}}
    before = given.observed(scaled)
    children = given.realised(before, replicas=0).children
    snapshot = given.observed({**scaled, **BUILD, "routing": {}}, children=children)
    decided = resolve.resolve(snapshot)
    wanted = given.identity(scaled)
    assert revisions.wanted_revision(snapshot, decided) == wanted
    woken = revisions.roll_out(snapshot, decided, replicas=1, now=given.MOMENT)
    assert woken.revisions == (Revision(wanted, 1),)
