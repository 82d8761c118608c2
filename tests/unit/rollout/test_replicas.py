"""Replicas of both revisions during a rollout."""

import itertools

import pytest

from slipstream_operator.core.rollout import replicas
from slipstream_operator.core.rollout.replicas import Counts, Limits


@pytest.mark.parametrize(
    ("need", "surge", "share", "expected"),
    [
        (1, None, 5, Counts(1, 1)),
        (4, None, 5, Counts(4, 1)),
        (4, None, 25, Counts(4, 2)),
        (4, None, 50, Counts(4, 4)),
        (12, None, 25, Counts(12, 4)),
        (4, 1, 5, Counts(4, 1)),
        (4, 1, 50, Counts(3, 2)),
        (4, 0, 5, Counts(3, 1)),
        (4, 0, 50, Counts(2, 2)),
        (2, 0, 5, Counts(1, 1)),
        (20, 0, 25, Counts(15, 5)),
        (0, None, 50, Counts(0, 0)),
        (0, 0, 50, Counts(0, 0)),
    ],
)
def test_each_revision_gets_replicas_for_its_share(
    need: int, surge: int | None, share: int, expected: Counts
) -> None:
    assert replicas.of_step(share, Limits(need, surge)) == expected


def test_an_old_replica_stops_for_each_new_one_without_surge() -> None:
    limits = Limits(8, 0)
    target = replicas.of_step(50, limits)
    assert target == Counts(4, 4)
    course = [replicas.toward(target, limits, ready=ready) for ready in range(5)]
    assert course == [Counts(7, 1), Counts(6, 2), Counts(5, 3), Counts(4, 4), Counts(4, 4)]


def test_one_replica_can_only_be_replaced_without_surge() -> None:
    assert not Limits(1, 0).has_room
    assert replicas.of_promotion(Limits(1, 0)) == Counts(0, 1)


@pytest.mark.parametrize("surge", [None, 0, 1, 3])
def test_replicas_stay_within_their_bounds_on_every_way(surge: int | None) -> None:
    for need, share, ready in itertools.product(range(2, 12), (1, 5, 25, 33, 50), range(12)):
        limits = Limits(need, surge)
        for target in (replicas.of_step(share, limits), replicas.of_promotion(limits)):
            found = replicas.toward(target, limits, ready=min(ready, target.canary))
            assert 1 <= found.canary <= need
            assert 1 <= found.stable <= need
            if surge is None:
                assert found.stable == need
            else:
                assert found.stable + found.canary <= need + surge
                assert found.stable + min(ready, found.canary) >= need - 1 + min(surge, 1)


def test_a_quota_takes_replicas_from_the_new_revision_alone() -> None:
    limits = Limits(4, quota=5)
    assert replicas.toward(Counts(4, 4), limits, ready=0) == Counts(4, 1)
    assert replicas.toward(Counts(4, 4), Limits(4, quota=4), ready=0) == Counts(4, 0)
    assert replicas.toward(Counts(3, 1), Limits(4, 0, quota=4), ready=0) == Counts(3, 1)
