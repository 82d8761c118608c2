"""Reports of pods that were evicted, preempted, refused or lost: one for each burst."""

import dataclasses
from typing import Any

import pytest

from slipstream_operator.api import units
from slipstream_operator.core import losses
from slipstream_operator.core.observed import Lost, Observed, ObservedPod
from tests.support import given

MINUTES = [f"2026-01-02T03:{minute:02}:00Z" for minute in range(60)]
"""Times, one a minute."""
REASONS = ["Evicted", "Preempted", "NodeShutdown", "RejectedByNode", "NodeDrained"]


def lost(name: str, minute: int, *, reason: str = "Evicted", **fields: Any) -> ObservedPod:
    """A pod that ended at this minute."""
    fields = {"phase": "Failed", **fields}
    return given.pod(
        "r",
        name=name,
        ready=False,
        trouble=(reason, "The node was low on memory."),
        gone_at=MINUTES[minute],
        **fields,
    )


def at(minute: int) -> float:
    return units.moment(MINUTES[minute])


def observed(*pods: ObservedPod) -> Observed:
    return given.observed(pods=pods)


@pytest.mark.parametrize("reason", REASONS)
@pytest.mark.parametrize("fields", [{}, {"phase": None, "deleting": True}])
def test_a_lost_pod_is_named_with_its_reason(reason: str, fields: dict[str, Any]) -> None:
    found = losses.of(observed(lost("chat-a", 3, reason=reason, **fields)))
    assert found == Lost(reason, "Pod chat-a: The node was low on memory.", at(3))


def test_a_burst_is_one_report_that_counts_the_pods_and_names_the_newest() -> None:
    pods = [lost(f"chat-{minute}", minute) for minute in (1, 31, 33, 35)]
    found = losses.of(observed(*pods))
    assert found is not None
    assert found.message == (
        "3 pods within ten minutes. The newest is pod chat-35: The node was low on memory."
    )


def test_a_report_ends_once_an_engine_became_ready_after_it() -> None:
    pods = lost("a", 3), given.pod("r", name="new", created=MINUTES[4])
    assert losses.of(observed(*pods)) is None
    assert losses.of(observed(lost("a", 3), given.pod("r", created=MINUTES[2]))) is not None


@pytest.mark.parametrize(
    "pod",
    [
        given.pod("r", ready=False, phase="Succeeded"),
        given.pod("r", ready=False, deleting=True),
        given.pod("r", ready=False, phase="Failed", trouble=("EngineFailed", "exit code 1")),
        given.pod("r", ready=False, trouble=("Unschedulable", "no node")),
    ],
    ids=["it ended well", "it was deleted", "its engine failed", "it waits"],
)
def test_a_pod_that_went_for_another_reason_is_no_loss(pod: ObservedPod) -> None:
    assert losses.of(observed(pod)) is None


def test_a_burst_has_one_event() -> None:
    first = losses.event(observed(lost("a", 3)), posted_at=None, now=at(3))
    assert first is not None
    assert (first.type, first.reason, first.message) == (
        "Warning",
        "Evicted",
        "Pod a: The node was low on memory.",
    )
    both = observed(lost("a", 3), lost("b", 5))
    assert losses.event(both, posted_at=at(3), now=at(5)) is None
    later = observed(lost("a", 3), lost("b", 20))
    assert losses.event(later, posted_at=at(3), now=at(20)) is not None


def test_a_loss_of_another_day_has_no_event_after_a_restart_of_the_operator() -> None:
    assert losses.event(observed(lost("a", 3)), posted_at=None, now=at(30)) is None


def test_the_loss_of_a_group_has_an_event_of_its_own() -> None:
    group = observed(lost("leader", 3), lost("worker", 3, worker=True))
    assert losses.event(group, posted_at=None, now=at(3)) is None


def test_the_newest_loss_is_named_after_its_pod_is_deleted() -> None:
    refused = lost("refused", 3, reason="RejectedByNode")
    first = observed(refused, given.pod("r", name="taken", created=MINUTES[4]))
    preempted = lost("taken", 8, reason="Preempted", phase="Running", deleting=True)
    then = after(first, refused, preempted)
    assert newest(then) == ("Preempted", "Pod taken: ")
    deleted = after(then, refused, given.pod("r", name="new", ready=False, created=MINUTES[9]))
    assert newest(deleted) == newest(then)
    again = after(deleted, refused, lost("new", 9))
    assert newest(again) == ("Evicted", "Pod new: ")


def test_a_refused_pod_explains_nothing_after_another_was_ready() -> None:
    refused = lost("refused", 3, reason="RejectedByNode")
    ready = observed(refused, given.pod("r", name="taken", created=MINUTES[4]))
    by_hand = after(ready, refused, given.pod("r", name="new", ready=False, created=MINUTES[5]))
    assert losses.of(by_hand) is None


def test_a_remembered_loss_ends_once_an_engine_became_ready_after_it() -> None:
    preempted = observed(lost("a", 3, reason="Preempted", phase="Running", deleting=True))
    ready = after(preempted, given.pod("r", name="new", created=MINUTES[5]))
    assert losses.of(ready) is None
    assert losses.of(after(ready)) is None


def test_a_remembered_loss_explains_no_pod_that_was_made_long_after_it() -> None:
    preempted = observed(lost("a", 3, reason="Preempted", phase="Running", deleting=True))
    woken = after(preempted, given.pod("r", name="new", ready=False, created=MINUTES[30]))
    assert losses.of(woken) is None


def after(before: Observed, *pods: ObservedPod) -> Observed:
    """Return the next reconcile, which remembers what this one saw."""
    return dataclasses.replace(observed(*pods), history=losses.history(before))


def newest(found: Observed) -> tuple[str, str]:
    """Return the reason of the newest loss, and the beginning of its message."""
    loss = losses.of(found)
    assert loss is not None
    return loss.reason, loss.message.removesuffix("The node was low on memory.")
