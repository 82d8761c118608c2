"""Rollouts of services without a router, and the revisions that they keep."""

from typing import Any

import pytest

from slipstream_operator.core import revisions
from slipstream_operator.core.observed import Child, Observed
from slipstream_operator.core.revisions import Revision, Rollout
from tests.support import given
from tests.support.rollouts import NEW, OLD, A, B, cluster, only, roll_out

RECREATE: dict[str, Any] = {**NEW, "rollout": {"strategy": "Recreate"}}


def _both(replicas: int = 1) -> Rollout:
    return Rollout(A, B, (Revision(A, replicas), Revision(B, replicas)))


def _is_public_service(child: Child) -> bool:
    return child.ref.kind == "Service" and child.ref.name == given.NAME


CASES: list[tuple[str, Observed, int, Rollout]] = [
    ("the first revision starts alone", given.observed(NEW), 2, only(B, 2)),
    ("nothing changes", cluster(OLD, pods=given.pods(A, 1)), 3, only(A, 3)),
    (
        "a change starts the new one beside the old",
        cluster(NEW, pods=given.pods(A, 2)),
        2,
        _both(2),
    ),
    (
        "the old one serves while the new one starts",
        cluster(NEW, starting=NEW, pods=given.pods(A, 1) + given.pods(B, 1, ready=False)),
        1,
        _both(),
    ),
    (
        "the old one serves until the new one has all its replicas",
        cluster(NEW, starting=NEW, pods=given.pods(A, 2) + given.pods(B, 1)),
        2,
        _both(2),
    ),
    (
        "then the traffic moves and the old one is dropped",
        cluster(NEW, starting=NEW, pods=given.pods(A, 2) + given.pods(B, 2)),
        2,
        only(B, 2),
    ),
    (
        "changing back keeps the old one and drops the new one",
        cluster(OLD, starting=NEW, pods=given.pods(A, 1) + given.pods(B, 1)),
        1,
        only(A),
    ),
    (
        "a service that does not answer has nothing to lose",
        cluster(NEW, starting=NEW, pods=given.pods(A, 1, ready=False)),
        1,
        only(B),
    ),
    (
        "pods that are being deleted do not serve",
        cluster(NEW, pods=(given.pod(A, deleting=True),)),
        1,
        only(B),
    ),
    ("a stopped service changes at once", cluster(NEW, pods=given.pods(A, 1)), 0, only(B, 0)),
    (
        "without its Service, what answers is kept",
        cluster(
            NEW,
            starting=NEW,
            pods=given.pods(A, 2) + given.pods(B, 1),
            without=_is_public_service,
        ),
        2,
        _both(2),
    ),
    (
        "a Service that selects what is gone is not followed",
        cluster(
            NEW,
            pods=given.pods(A, 1),
            without=lambda child: child.ref.kind == "Deployment",
        ),
        1,
        _both(),
    ),
    (
        "recreate stops the old one first",
        cluster(RECREATE, pods=given.pods(A, 2)),
        2,
        Rollout(A, B, (Revision(A, 0), Revision(B, 0))),
    ),
    (
        "recreate waits for pods that are still ending",
        cluster(RECREATE, pods=(given.pod(A, deleting=True),)),
        2,
        Rollout(A, B, (Revision(A, 0), Revision(B, 0))),
    ),
    (
        "recreate does not wait for a node that is gone to end its pod",
        cluster(RECREATE, pods=(given.pod(A, deleting=True, gone_at=given.CREATED),)),
        2,
        only(B, 2),
    ),
    (
        "recreate does not wait for a node that is gone to end a worker",
        cluster(
            RECREATE,
            pods=(given.pod(A, deleting=True, gone_at=given.CREATED, worker=True),),
        ),
        2,
        only(B, 2),
    ),
    ("then recreate starts the new one", cluster(RECREATE), 2, only(B, 2)),
    (
        "recreate does not wait for pods that were evicted",
        cluster(RECREATE, pods=(given.pod(A, ready=False, phase="Failed"),)),
        2,
        only(B, 2),
    ),
]


@pytest.mark.parametrize(
    ("observed", "replicas", "expected"),
    [case[1:] for case in CASES],
    ids=[case[0] for case in CASES],
)
def test_a_rollout(observed: Observed, replicas: int, expected: Rollout) -> None:
    assert roll_out(observed, replicas=replicas) == expected


def test_the_next_time_to_look_at_recreate_is_when_a_pod_must_have_ended() -> None:
    ending = given.pod(A, name="ending", deleting=True)
    ended = given.pod(A, name="ended", deleting=True, phase="Failed")
    assert revisions.released_at(cluster(RECREATE, pods=(ending, ended))) == given.MOMENT + 60
    assert revisions.released_at(cluster(RECREATE, pods=(ended, *given.pods(A, 1)))) is None


@pytest.mark.parametrize("gone", [{"deleting": True}, {"phase": "Failed"}, {"phase": "Succeeded"}])
def test_a_pod_that_is_gone_proves_no_revision(gone: dict[str, Any]) -> None:
    pods = (*given.pods(A, 1), given.pod(B, **gone))  # its condition Ready may still be True
    assert roll_out(cluster(NEW, starting=NEW, pods=pods)) == _both()


def test_a_strangers_service_does_not_say_what_serves() -> None:
    pods = given.pods(A, 2) + given.pods(B, 1)
    observed = cluster(NEW, starting=NEW, pods=pods, without=_is_public_service)
    service = given.find(given.rendered(given.observed(NEW)), "Service", name=given.NAME)
    children = (*observed.children, given.child(service, controller="another"))
    observed = given.observed(NEW, children=children, pods=pods)
    assert roll_out(observed, replicas=2) == _both(2)


def test_an_existing_revision_keeps_what_it_was_made_with() -> None:
    observed = cluster(NEW, pods=given.pods(A, 1))
    before = given.find(given.rendered(given.observed(OLD)), "Deployment")
    after = given.find(given.rendered(observed), "Deployment", name=f"chat-{A}")
    assert after == before


def test_what_a_stranger_stored_is_not_a_revision() -> None:
    config = given.find(given.rendered(given.observed(OLD)), "ConfigMap", name=f"chat-{A}")
    observed = given.observed(OLD, children=[given.child(config, controller="another")])
    assert revisions.stored(observed, A) is None
