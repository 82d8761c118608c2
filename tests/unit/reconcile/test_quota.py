"""Quota of accelerators of a namespace: no service of it, nor all together, ever get more."""

import dataclasses
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from slipstream_operator.core import quota, resolve, revisions, status
from slipstream_operator.core.observed import Key, Parent, pack
from slipstream_operator.core.quota import Want
from slipstream_operator.core.scaling.bounds import Bounds
from slipstream_operator.core.scaling.state import Decision
from slipstream_operator.core.status.outcome import Outcome
from slipstream_operator.names import Reason
from tests.support import given


def want(
    name: str, *, accelerators: int = 1, fewest: int = 1, most: int = 1, created: str = ""
) -> Want:
    return Want(Key("team", name), created or name, accelerators, fewest, most)


def allocated(limit: int, *wants: Want) -> list[int]:
    granted = quota.allocate(wants, limit)
    return [granted[one.key].replicas for one in wants]


def surges(limit: int, *wants: Want) -> list[int]:
    granted = quota.allocate(wants, limit)
    return [granted[one.key].surge for one in wants]


def test_each_gets_its_fewest_before_anyone_gets_more():
    assert allocated(4, want("a", most=4), want("b", most=4)) == [3, 1]


def test_the_oldest_is_first_whatever_the_order():
    young, old = want("a", created="2", most=4), want("b", created="1", most=4)
    assert allocated(5, young, old) == [1, 4]


def test_what_no_longer_fits_gets_nothing_and_a_smaller_one_still_does():
    assert allocated(10, want("a", accelerators=8), want("b", accelerators=8), want("c")) == [
        1,
        0,
        1,
    ]


def test_a_service_that_needs_more_than_is_left_gets_what_is_left():
    assert allocated(3, want("a", fewest=5, most=5)) == [3]


def test_what_is_left_is_for_rollouts_of_the_oldest():
    assert surges(5, want("a", most=2, fewest=2), want("b")) == [2, 0]


def test_a_rollout_that_stops_the_old_revision_first_needs_no_surge():
    recreated = dataclasses.replace(want("a"), surges=False)
    assert surges(5, recreated, want("b")) == [0, 1]


def test_a_stopped_service_is_not_over_quota():
    assert allocated(0, want("a", fewest=0, most=0)) == [0]


@hypothesis.given(
    st.lists(
        st.tuples(st.integers(1, 16), st.integers(0, 4), st.integers(0, 8), st.sampled_from("abc")),
        max_size=12,
    ),
    st.integers(0, 64),
    st.randoms(),
)
def test_never_more_than_the_limit_and_the_same_for_every_order(asked, limit, random):
    wants = [
        want(f"s{n}", accelerators=size, fewest=fewest, most=fewest + more, created=created)
        for n, (size, fewest, more, created) in enumerate(asked)
    ]
    granted = quota.allocate(wants, limit)
    total = sum(
        (granted[one.key].replicas + granted[one.key].surge) * one.accelerators for one in wants
    )
    assert total <= limit
    assert all(granted[one.key].replicas <= one.most for one in wants)
    shuffled = [*wants]
    random.shuffle(shuffled)
    assert quota.allocate(shuffled, limit) == granted


def service(name: str, *, created: str, **spec: Any) -> Parent:
    return given.parent(
        {"model": given.MODEL, **spec}, key=Key(given.NAMESPACE, name), created=created
    )


def snapshot(limit: int, spec: dict[str, Any], *others: Parent, **more: Any):
    profile = given.profile(name="gpus", limits={"maxAcceleratorsPerNamespace": limit})
    return dataclasses.replace(
        given.observed({"model": given.MODEL, **spec}, profiles=[profile], **more), siblings=others
    )


OLD = service("old", created="2025-01-01T00:00:00Z", accelerator={"count": 4})


def summary(observed: Any, *, desired: int) -> dict[str, Any]:
    resolved = resolve.resolve(observed)
    outcome = Outcome(
        resolved=resolved,
        rollout=revisions.roll_out(observed, resolved, replicas=desired, now=given.MOMENT),
        decision=Decision(desired, "as it is", True),
        state=given.state(desired),
    )
    return status.summarise(observed, outcome, now=given.NOW)


def conditions(found: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {entry["type"]: (entry["status"], entry["reason"]) for entry in found["conditions"]}


def test_a_service_that_the_quota_leaves_nothing_is_refused_with_the_numbers():
    observed = snapshot(8, {"accelerator": {"count": 8}}, OLD)
    found = summary(observed, desired=0)
    assert resolve.resolve(observed).bounds.maximum == 0
    refused = ("False", Reason.QUOTA_EXCEEDED)
    assert conditions(found)["Accepted"] == conditions(found)["Available"] == refused
    assert conditions(found)["Stalled"] == ("True", Reason.QUOTA_EXCEEDED)
    (accepted,) = (entry for entry in found["conditions"] if entry["type"] == "Accepted")
    assert accepted["message"] == (
        "spec.accelerator.count: 1 replica of 8 accelerators can't run because ServingProfile gpus allows 8 "
        "accelerators per namespace, and older services use 4. Use fewer replicas or accelerators, stop another "
        "service, or ask the platform team for more."
    )


def test_scaling_is_capped_at_the_share_and_status_says_so():
    observed = snapshot(8, {"scaling": {"minReplicas": 1, "maxReplicas": 10}}, OLD)
    assert resolve.resolve(observed).bounds.maximum == 4
    assert "limited" not in summary(observed, desired=3)["scaling"]
    assert summary(observed, desired=4)["scaling"]["limited"] == (
        "ServingProfile gpus allows 8 accelerators per namespace. This service can use 4, for 4 of 10 replicas."
    )


def test_a_fixed_count_is_capped_too():
    assert resolve.resolve(snapshot(8, {"replicas": 9}, OLD)).bounds == Bounds(
        4, 4, follows_load=False
    )


def test_a_service_at_zero_keeps_a_replica_for_the_next_request():
    idle = {"minReplicas": 0, "maxReplicas": 2, "idleAfter": "5m"}
    young = service("young", created="2027-01-01T00:00:00Z", replicas=9)
    bounds = resolve.resolve(snapshot(2, {"scaling": idle}, young)).bounds
    assert (bounds.minimum, bounds.maximum) == (0, 1)


def test_cpus_and_simulators_need_no_accelerators():
    simulator = service("sim", created="2024-01-01T00:00:00Z", replicas=1)
    simulator = given.parent({"runtime": "simulator"}, key=simulator.key, created="2024")
    on_cpu = service(
        "slow", created="2024-01-01T00:00:00Z", accelerator={"type": "cpu", "count": 8}
    )
    found = resolve.resolve(snapshot(1, {}, simulator, on_cpu))
    assert found.share == quota.Share(1, 0)
    assert resolve.resolve(snapshot(0, {"accelerator": {"type": "cpu"}})).share is None


def test_without_a_limit_nothing_is_shared_out():
    assert given.resolved().share is None


def serving(limit: int, **spec: Any):
    """A service whose first revision serves with two replicas, and which asks for another revision now."""
    before = snapshot(limit, {"replicas": 2})
    old = revisions.identity(resolve.resolve(before).revisioned)
    after = snapshot(
        limit, {"replicas": 2, "quantization": {"method": "fp8"}, **spec},
        children=given.realised(before, replicas=2).children, pods=given.pods(old, 2),
    )  # fmt: skip
    return after, old


def counts(observed: Any) -> dict[str, int]:
    rollout = revisions.roll_out(observed, resolve.resolve(observed), replicas=2, now=given.MOMENT)
    return {revision.hash: revision.replicas for revision in rollout.revisions}


def test_a_rollout_counts_both_revisions_and_waits_where_they_do_not_fit():
    observed, old = serving(3)
    found = counts(observed)
    assert found.pop(old) == 2
    assert list(found.values()) == [0]
    (waiting,) = (
        entry
        for entry in summary(observed, desired=2)["conditions"]
        if entry["type"] == "Reconciling"
    )
    assert waiting["reason"] == Reason.QUOTA_EXCEEDED
    assert "allows 3 replicas of this service" in waiting["message"]
    assert "rollout.strategy: Recreate" in waiting["message"]


def test_a_rollout_runs_beside_the_old_revision_where_the_quota_has_room():
    observed, _ = serving(4)
    assert sorted(counts(observed).values()) == [2, 2]


def test_recreate_needs_no_room():
    observed, old = serving(2, rollout={"strategy": "Recreate"})
    assert counts(observed)[old] == 0


@pytest.mark.parametrize(
    "edited",
    [
        {"accelerator": {"type": "absent", "count": 4}},
        {"accelerator": {"count": 3}, "parallelism": {"tensor": 2}},
        {"replicas": "many"},
    ],
)
def test_a_service_that_is_refused_holds_the_accelerators_that_it_still_runs(edited):
    running = {"replicas": 1, "engine": {"runtime": "vllm", "accelerator": "gpu x 4 on 2 nodes"}}
    old = service("old", created="2025-01-01T00:00:00Z", **edited)
    old = dataclasses.replace(old, packed_status=pack(running))
    found = resolve.resolve(snapshot(6, {"accelerator": {"count": 4}}, old)).share
    assert found is not None and "older services use 4" in (found.refused or "")
    two = resolve.resolve(snapshot(6, {"accelerator": {"count": 2}}, old)).share
    assert two is not None and two.replicas == 1


@pytest.mark.parametrize(
    "status",
    [
        {},
        {"replicas": 0, "engine": {"runtime": "vllm", "accelerator": "gpu x 4"}},
        {"replicas": 1, "engine": {"runtime": "vllm", "accelerator": "cpu x 4"}},
        {"replicas": 1, "engine": {"runtime": "simulator", "accelerator": "gpu x 4"}},
    ],
)
def test_a_service_that_is_refused_and_runs_no_accelerator_holds_none(status):
    old = service("old", created="2025-01-01T00:00:00Z", accelerator={"type": "absent"})
    old = dataclasses.replace(old, packed_status=pack(status))
    found = resolve.resolve(snapshot(4, {"accelerator": {"count": 4}}, old)).share
    assert found is not None and found.refused is None and found.replicas == 1


def test_of_two_services_of_one_second_the_first_by_name_gets_what_is_left():
    created = given.observed().parent.created
    first, last = (
        service(name, created=created, accelerator={"count": 4}) for name in ("aaa", "zzz")
    )
    assert resolve.resolve(snapshot(4, {"accelerator": {"count": 4}}, last)).bounds.minimum == 1
    assert resolve.resolve(snapshot(4, {"accelerator": {"count": 4}}, first)).bounds.minimum == 0
