"""Reconciles of one service, with a cluster that records its calls."""

import json
from typing import Any

import pytest

from slipstream_operator import errors, names
from slipstream_operator.api import units
from slipstream_operator.core.observed import Ref
from slipstream_operator.shell.service_reconciler import CONFLICT_RETRY
from tests.support import fakes, given
from tests.support.reconciles import DEPLOYMENT, DIRECT, HASH, OLD, SCALED, STATUS, World

DIRECT_SPEC: dict[str, Any] = {"model": given.MODEL, **DIRECT}

SERVICE = Ref("Service", given.NAMESPACE, given.NAME)

ALL = [
    ("create", "NetworkPolicy chat"),
    ("create", f"ConfigMap chat-{HASH}"),
    ("create", f"Service chat-{HASH}"),
    ("create", f"Deployment chat-{HASH}"),
    ("create", "Service chat"),
]


async def test_a_new_service_gets_its_children_in_order_and_then_its_status() -> None:
    world = World()
    assert await world.reconcile() is None
    assert world.cluster.calls == [*ALL, STATUS]
    assert world.condition("Accepted") == ("True", "Accepted")


async def test_only_a_service_that_scales_has_a_state_and_a_disruption_budget() -> None:
    world = World(SCALED)
    await world.reconcile()
    assert {call for call in world.cluster.calls if call not in ALL} >= {
        ("create", "ConfigMap chat-state"),
        ("create", "PodDisruptionBudget chat"),
    }


async def test_without_a_change_nothing_is_written() -> None:
    world = World()
    await world.reconcile()
    await world.reconcile()
    assert world.cluster.calls == []


async def test_a_pod_that_becomes_ready_changes_the_status_alone() -> None:
    world = World({"model": given.MODEL, **DIRECT})
    await world.reconcile()
    world.starts_pods(OLD)
    await world.reconcile()
    assert world.cluster.calls == [STATUS]
    assert world.condition("Ready") == ("True", "EnginesReady")


async def test_a_count_that_the_user_changes_changes_the_deployment() -> None:
    world = World()
    await world.reconcile()
    world.writes({"model": given.MODEL, "replicas": 3})
    await world.reconcile()
    assert ("apply", f"Deployment chat-{HASH}") in world.cluster.calls
    assert world.cluster.objects[DEPLOYMENT]["spec"]["replicas"] == 3


async def test_a_deleted_child_is_recreated() -> None:
    world = World()
    await world.reconcile()
    await world.cluster.delete(SERVICE, uid=world.cluster.objects[SERVICE]["metadata"]["uid"])
    await world.reconcile()
    assert world.cluster.calls == [("create", "Service chat")]


async def test_a_change_moves_the_traffic_and_then_deletes_the_old_revision() -> None:
    new: dict[str, Any] = {"model": {"uri": "hf://org/new"}, **DIRECT}
    world = World({"model": given.MODEL, **DIRECT})
    await world.reconcile()
    world.starts_pods(OLD)
    world.writes(new)
    await world.reconcile()
    assert ("create", f"Deployment chat-{given.identity(new)}") in world.cluster.calls
    assert not {"delete"} & world.cluster.verbs()
    world.starts_pods(given.identity(new))
    await world.reconcile()
    verbs = [verb for verb, _ in world.cluster.calls]
    assert ("apply", "Service chat") in world.cluster.calls
    assert ("delete", f"Deployment chat-{OLD}") in world.cluster.calls
    assert verbs.index("apply") < verbs.index("delete")
    reasons = [event.reason for event in world.events.posted]
    assert reasons.index("RevisionActivated") < reasons.index("RevisionDeleted")


async def test_another_owners_object_is_reported_not_touched_and_retried() -> None:
    world = World()
    world.cluster.strangers(SERVICE)
    assert await world.reconcile() == CONFLICT_RETRY
    assert world.condition("Available") == ("False", "NameConflict")
    assert world.cluster.objects[SERVICE] == {"metadata": {"uid": "uid-of-a-stranger"}}
    assert ("create", f"Deployment chat-{HASH}") in world.cluster.calls
    del world.cluster.objects[SERVICE]
    assert await world.reconcile() is None
    assert world.cluster.objects[SERVICE]["metadata"]["uid"] != "uid-of-a-stranger"


async def test_an_own_child_whose_watch_event_is_late_is_no_conflict() -> None:
    world = World()
    world.cluster.on_change = lambda *_: None
    await world.reconcile()
    assert await world.reconcile() is None
    assert world.cluster.calls.count(("read", "Service chat")) == 1
    assert world.condition("Available") == ("False", "Pending")


async def test_a_rejected_object_is_reported_and_the_others_are_applied() -> None:
    world = World()
    world.cluster.fails["create", f"Deployment chat-{HASH}"] = errors.Rejected("403: quota")
    assert await world.reconcile() == CONFLICT_RETRY
    assert world.condition("Available") == ("False", "Rejected")
    assert ("create", "Service chat") in world.cluster.calls
    assert "403: quota" in str(world.cluster.statuses[-1]["conditions"])


async def test_nothing_is_deleted_while_an_object_is_rejected() -> None:
    new: dict[str, Any] = {"model": {"uri": "hf://org/new"}, **DIRECT}
    world = World({"model": given.MODEL, **DIRECT})
    await world.reconcile()
    world.writes(new)
    world.cluster.fails["apply", "Service chat"] = errors.Rejected("422")
    await world.reconcile()
    assert "delete" not in world.cluster.verbs()


@pytest.mark.parametrize("error", [errors.Unavailable("down"), errors.Conflict("changed")])
@pytest.mark.parametrize("call", [("apply", f"Deployment chat-{HASH}"), STATUS])
async def test_a_transient_error_is_left_to_the_queue(
    error: Exception, call: tuple[str, str]
) -> None:
    world = World()
    await world.reconcile()
    world.writes({"model": given.MODEL, "replicas": 3})
    world.cluster.fails[call] = error
    with pytest.raises(type(error)):
        await world.reconcile()


async def test_an_invalid_object_is_reported_and_its_children_stay() -> None:
    world = World()
    await world.reconcile()
    world.starts_pods()
    await world.reconcile()
    world.writes(
        {"model": given.MODEL, "accelerator": {"type": "tpu"}}, status=world.cluster.statuses[-1]
    )
    assert await world.reconcile() is None
    assert world.cluster.calls == [STATUS]
    assert world.condition("Accepted") == ("False", "UnknownAccelerator")
    assert world.condition("Available") == ("True", "EnginesReady")


async def test_an_object_that_is_being_deleted_is_left_alone() -> None:
    world = World()
    world.writes(deleting=True)
    assert await world.reconcile() is None
    assert world.cluster.calls == []


async def test_a_deleted_object_has_no_state_left() -> None:
    world = World()
    await world.reconcile()
    world.store.feed(names.INFERENCE_SERVICE, fakes.service_body(), gone=True)
    assert await world.reconcile() is None
    assert world.cluster.calls == []
    assert world.states.known() == []


async def test_events_are_posted_once() -> None:
    world = World()
    await world.reconcile()
    world.writes({"model": {"uri": "hf://org/other"}})
    for _ in range(3):
        await world.reconcile()
    reasons = [event.reason for event in world.events.posted]
    assert reasons[0] == "RevisionCreated"
    assert len(reasons) == len(set(reasons))


async def test_a_burst_of_evictions_is_one_event_and_leaves_no_replica() -> None:
    world = World()
    await world.reconcile()
    world.starts_pods()
    await world.reconcile()
    for n in range(3):
        body = fakes.pod_body(HASH, name=f"evicted-{n}", uid=f"evicted-{n}")
        message = "The node was low on resource: ephemeral-storage."
        body["status"] = {
            "phase": "Failed",
            "reason": "Evicted",
            "message": message,
            "startTime": units.timestamp(world.clock.now() + n),
        }
        world.store.feed("Pod", body, gone=False)
        await world.reconcile()
    posted = [event.message for event in world.events.posted if event.reason == "Evicted"]
    assert len(posted) == 1
    assert posted[0].startswith("Pod evicted-0: The node was low on resource: ephemeral-storage. ")
    assert "spec.resources" in posted[0]
    assert world.cluster.statuses[-1]["replicas"] == 1
    assert {entry["type"] for entry in world.cluster.statuses[-1]["conditions"]} & {
        "Reconciling",
        "Stalled",
    } == set()


async def test_an_eviction_that_ends_the_service_is_one_event() -> None:
    world = World(DIRECT_SPEC)
    await world.reconcile()
    world.starts_pods(OLD)
    await world.reconcile()
    assert world.condition("Available") == ("True", "EnginesReady")
    body = fakes.pod_body(OLD, name=f"pod-{OLD}")
    body["status"] = {
        "phase": "Failed",
        "reason": "Evicted",
        "message": "The node was low on resource: memory.",
        "startTime": units.timestamp(world.clock.now()),
    }
    world.store.feed("Pod", body, gone=False)
    await world.reconcile()
    assert world.condition("Available") == ("False", "Evicted")
    (posted,) = [event for event in world.events.posted if event.reason == "Evicted"]
    assert posted.message.startswith(f"Available: Pod pod-{OLD}: The node was low on resource: ")


async def test_recreate_goes_on_when_a_node_that_is_gone_never_ends_its_pod() -> None:
    recreate = {**DIRECT, "rollout": {"strategy": "Recreate"}}
    world = World({"model": given.MODEL, **recreate})
    await world.reconcile()
    (old,) = [name for kind, name in _deployments(world)]
    world.starts_pods(old.removeprefix("chat-"))
    await world.reconcile()
    world.writes({"model": {"uri": "hf://org/other"}, **recreate})
    body = fakes.pod_body(old.removeprefix("chat-"), name=f"pod-{old.removeprefix('chat-')}")
    end = world.clock.now() + 30.0
    body["metadata"] |= {
        "deletionTimestamp": units.timestamp(end),
        "deletionGracePeriodSeconds": 60,
    }
    world.store.feed("Pod", body, gone=False)
    await world.reconcile()
    assert set(_replicas(world).values()) == {0}
    world.clock.seconds += 91.0
    await world.reconcile()
    await world.reconcile()
    assert list(_replicas(world).values()) == [1]


def _deployments(world: World) -> list[tuple[str, str]]:
    return [(ref.kind, ref.name) for ref in world.cluster.objects if ref.kind == "Deployment"]


def _replicas(world: World) -> dict[str, int]:
    return {
        ref.name: body["spec"]["replicas"]
        for ref, body in world.cluster.objects.items()
        if ref.kind == "Deployment"
    }


async def test_a_fault_on_one_object_is_its_condition_and_its_event(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World({"model": given.MODEL})
    await world.reconcile()
    body = fakes.service_body({"model": given.MODEL}) | {"status": world.cluster.statuses[-1]}
    world.store.feed(names.INFERENCE_SERVICE, body, gone=False)

    def failing(*_: Any, **__: Any) -> Any:
        raise OverflowError("text of a pod")

    with monkeypatch.context() as patched, pytest.raises(OverflowError):
        patched.setattr("slipstream_operator.core.resolve.resolve", failing)
        await world.reconcile()
    assert world.condition("Stalled") == ("True", "ReconcileFailed")
    assert "text of a pod" not in json.dumps(world.cluster.statuses[-1])
    assert world.condition("Accepted") == ("True", "Accepted")
    assert "ReconcileFailed" in {event.reason for event in world.events.posted}
    body |= {"status": world.cluster.statuses[-1]}
    world.store.feed(names.INFERENCE_SERVICE, body, gone=False)
    await world.reconcile()
    assert "Stalled" not in {one["type"] for one in world.cluster.statuses[-1]["conditions"]}


async def test_a_kind_that_the_cluster_lacks_is_a_condition_and_not_a_silent_retry() -> None:
    world = World({"model": given.MODEL, **DIRECT})
    accelerators = [{"name": "gpu", "deviceClass": "gpu.example.com"}]
    profile = fakes.profile_body(accelerators=accelerators)
    world.store.feed(names.SERVING_PROFILE, profile, gone=False)
    revision = given.identity(
        {"model": given.MODEL, **DIRECT}, profiles=[given.profile(accelerators=accelerators)]
    )
    name = f"ResourceClaimTemplate chat-{revision}"
    missing = "the cluster has no ResourceClaimTemplate of resource.k8s.io/v1"
    world.cluster.fails["create", name] = errors.KindMissing(missing)
    assert await world.reconcile() == CONFLICT_RETRY
    assert world.condition("Available") == ("False", "Rejected")
    (found,) = (
        entry for entry in world.cluster.statuses[-1]["conditions"] if entry["type"] == "Available"
    )
    assert found["message"] == f"{name} could not be applied: {missing}"
