"""A replica that spans nodes: one LeaderWorkerSet a revision, whose groups are the replicas."""

import dataclasses
from typing import Any

import pytest

from slipstream_operator import names
from slipstream_operator.core import groups, resolve, revisions, status
from slipstream_operator.core.groups import Loss
from slipstream_operator.core.observed import Key, Observed
from slipstream_operator.core.revisions import Revision, Rollout
from slipstream_operator.core.scaling.state import Decision
from slipstream_operator.core.status.outcome import Outcome
from slipstream_operator.errors import PermanentError
from slipstream_operator.names import Reason
from slipstream_runtime.engine.config import EngineConfig
from tests.support import given

SPREAD: dict[str, Any] = {
    "model": given.MODEL,
    "parallelism": {"tensor": 8, "pipeline": 2, "nodes": 2},
}
CPU: dict[str, Any] = {
    "model": given.MODEL,
    "accelerator": {"type": "cpu", "count": 4},
    "parallelism": {"nodes": 2},
}


def rendered(spec: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
    return given.rendered(given.observed(spec, leader_worker_sets=True), **more)


def workload(spec: dict[str, Any], **more: Any) -> dict[str, Any]:
    return given.find(rendered(spec, **more), names.LEADER_WORKER_SET)


def template(spec: dict[str, Any], role: str) -> dict[str, Any]:
    found: dict[str, Any] = workload(spec)["spec"]["leaderWorkerTemplate"][f"{role}Template"]
    return found


def test_a_revision_is_a_leader_worker_set_whose_replicas_are_groups() -> None:
    found = workload(SPREAD, replicas=3)
    assert found["spec"]["replicas"] == 3
    assert found["spec"]["leaderWorkerTemplate"]["size"] == 2
    assert found["spec"]["leaderWorkerTemplate"]["restartPolicy"] == "RecreateGroupOnPodRestart"
    assert "Deployment" not in {manifest["kind"] for manifest in rendered(SPREAD)}


def test_each_pod_asks_for_its_share_of_the_accelerators() -> None:
    for role in ("leader", "worker"):
        (container,) = template(SPREAD, role)["spec"]["containers"]
        assert container["resources"]["limits"] == {"nvidia.com/gpu": "8"}


def test_services_budgets_and_metrics_select_leaders_and_no_workers() -> None:
    leader, worker = (template(SPREAD, role)["metadata"] for role in ("leader", "worker"))
    manifests = given.rendered(
        given.observed(
            {**SPREAD, "scaling": {"maxReplicas": 2}}, leader_worker_sets=True, pod_monitors=True
        )
    )
    headless = next(
        one for one in manifests if one["kind"] == "Service" and one["metadata"]["name"] != "chat"
    )
    selectors = [
        given.find(manifests, "PodDisruptionBudget", name="chat")["spec"]["selector"][
            "matchLabels"
        ],
        given.find(manifests, "PodMonitor")["spec"]["selector"]["matchLabels"],
        headless["spec"]["selector"],
    ]
    for selector in selectors:
        assert selector.items() <= leader["labels"].items()
        assert not selector.items() <= worker["labels"].items()
    assert leader["annotations"]["prometheus.io/scrape"] == "true"
    assert "prometheus.io/scrape" not in worker["annotations"]


def test_a_topology_domain_for_each_group_is_asked_of_the_set_itself() -> None:
    exclusive = {"leaderworkerset.sigs.k8s.io/exclusive-topology": "rack"}
    found = workload({**SPREAD, "template": {"annotations": {**exclusive, "team": "a"}}})
    annotations = found["metadata"]["annotations"]
    assert exclusive.items() <= annotations.items()
    assert "team" not in annotations


def test_workers_are_evicted_from_one_group_at_a_time() -> None:
    found = rendered({**SPREAD, "scaling": {"maxReplicas": 2}})
    budget = given.find(found, "PodDisruptionBudget", name="chat.workers")["spec"]
    assert budget["maxUnavailable"] == 1
    assert budget["selector"]["matchLabels"] == {names.WORKER_LABEL: "chat"}
    alone = rendered({**SPREAD, "replicas": 1})
    assert "PodDisruptionBudget" not in {manifest["kind"] for manifest in alone}


def test_the_pods_of_a_service_reach_each_other_on_all_ports() -> None:
    policies = [one["spec"] for one in rendered(SPREAD) if one["kind"] == "NetworkPolicy"]
    workers = {"podSelector": {"matchLabels": {names.WORKER_LABEL: given.NAME}}}
    assert len(policies) == 2
    for policy in policies:
        assert {"from": [workers]} in policy["ingress"]
    assert (
        len([one for one in given.rendered(given.observed()) if one["kind"] == "NetworkPolicy"])
        == 1
    )


def test_on_a_cpu_each_pod_computes_in_one_process_with_its_share_of_the_cores() -> None:
    found = given.resolved(CPU, leader_worker_sets=True)
    config = EngineConfig.model_validate(found.revisioned.config)
    assert (config.nodes, config.tensor_parallel, config.cores) == (2, 2, 2)
    assert found.revisioned.resources["requests"]["cpu"] == "2"
    assert found.accelerator == "cpu x 4 on 2 nodes"


def test_a_revision_keeps_its_kind_while_the_next_one_starts() -> None:
    before = given.realised(given.observed(SPREAD, leader_worker_sets=True))
    serving = given.pod(given.identity(SPREAD, leader_worker_sets=True))
    after = dataclasses.replace(
        before, parent=given.parent({"model": given.MODEL}), pods=(serving,)
    )
    assert {one["kind"] for one in given.rendered(after)} >= {
        "Deployment",
        names.LEADER_WORKER_SET,
    }


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (
            {"parallelism": {"tensor": 8, "nodes": 3}},
            "spec.parallelism.nodes: 3 can't work because tensor x pipeline (8 x 1)",
        ),
        (
            {"parallelism": {"tensor": 2, "data": 2, "nodes": 2}},
            "spec.parallelism.nodes: 2 can't be used with data: 2",
        ),
        (
            {"parallelism": {"tensor": 2, "nodes": 2}, "cache": {"offload": {"cpu": "1Gi"}}},
            "spec.parallelism.nodes: 2 can't be used with spec.cache.offload",
        ),
        (
            {
                "parallelism": {"tensor": 2, "nodes": 2},
                "model": {**given.MODEL, "adapters": []},
            },
            "spec.parallelism.nodes: 2 can't be used with spec.model.adapters",
        ),
        (
            {"parallelism": {"nodes": 2}, "accelerator": {"type": "cpu", "count": 3}},
            "spec.parallelism.nodes: 2 can't work because accelerator.count (3 cores)",
        ),
        (
            {"parallelism": {"tensor": 4, "nodes": 2}, "accelerator": {"type": "cpu"}},
            "spec.parallelism: 4 ways can't work because an engine on type cpu is one process",
        ),
        (
            {"parallelism": {"nodes": 2}, "runtime": "simulator", "model": None},
            "spec.parallelism.nodes: 2 can't be used with runtime: simulator",
        ),
    ],
)
def test_what_cannot_be_spread_is_refused_with_a_remedy(
    spec: dict[str, Any], expected: str
) -> None:
    given_spec = {
        key: value for key, value in {"model": given.MODEL, **spec}.items() if value is not None
    }
    with pytest.raises(PermanentError) as refused:
        given.resolved(given_spec, leader_worker_sets=True)
    assert expected in refused.value.message
    assert refused.value.reason == Reason.UNSUPPORTED


@pytest.mark.parametrize(
    ("length", "replicas", "longest"), [(40, 100, None), (39, 1000, None), (40, 101, 39)]
)
def test_a_name_leaves_room_for_the_labels_of_a_groups_workers(
    length: int, replicas: int, longest: int | None
) -> None:
    spec = {**SPREAD, "scaling": {"maxReplicas": replicas}}
    key = Key(given.NAMESPACE, "n" * length)
    snapshot = given.observed(spec, parent=given.parent(spec, key=key), leader_worker_sets=True)
    label = f"{names.revision_name(key.name, '01234567')}-{replicas - 1}-0123456789"
    if longest is None:
        assert len(label) <= 63
        resolve.resolve(snapshot)
        return
    assert len(label) > 63
    with pytest.raises(PermanentError, match=f"Use at most {longest} characters, or fewer"):
        resolve.resolve(snapshot)


def test_a_cluster_without_the_kind_is_named_with_the_remedy() -> None:
    with pytest.raises(PermanentError) as refused:
        given.resolved(SPREAD)
    assert refused.value.reason == Reason.LEADER_WORKER_SET_MISSING
    assert "Ask the platform team to install it" in refused.value.message


def test_recreate_waits_for_the_workers_of_the_old_revision_too() -> None:
    wanted = {**SPREAD, "rollout": {"strategy": "Recreate"}, "routing": {"mode": "Direct"}}
    old = given.identity(
        {**wanted, "model": {**given.MODEL, "maxLength": 64}}, leader_worker_sets=True
    )
    before = given.realised(
        given.observed(
            {**wanted, "model": {**given.MODEL, "maxLength": 64}}, leader_worker_sets=True
        )
    )
    ending = dataclasses.replace(
        before,
        parent=given.parent(wanted),
        workers=(given.pod(old, worker=True, deleting=True),),
    )
    resolved = resolve.resolve(ending)
    counts = {
        revision.hash: revision.replicas
        for revision in revisions.roll_out(ending, resolved, replicas=1, now=given.MOMENT).revisions
    }
    assert counts == {old: 0, revisions.identity(resolved.revisioned): 0}


def outcome(loss: str | None) -> Outcome:
    resolved = given.resolved(SPREAD, leader_worker_sets=True)
    rollout = Rollout("r", "r", (Revision("r", 1),))
    return Outcome(
        resolved=resolved,
        rollout=rollout,
        decision=Decision(1, "Fixed by spec.replicas.", known=True),
        loss=loss,
    )


def available(observed: Observed, loss: str | None = None) -> tuple[str, str]:
    found = status.summarise(observed, outcome(loss), now=given.NOW)
    entry = next(one for one in found["conditions"] if one["type"] == "Available")
    return entry["reason"], entry["message"]


def test_a_worker_is_no_replica_and_its_trouble_is_the_groups() -> None:
    observed = given.observed(
        SPREAD,
        pods=[given.pod("r", ready=False)],
        workers=[
            given.pod(
                "r", name="chat-r-0-1", worker=True, ready=False, trouble=("Unschedulable", "0/1")
            )
        ],
        leader_worker_sets=True,
    )
    assert available(observed) == ("Unschedulable", "Worker chat-r-0-1: 0/1")
    assert status.summarise(observed, outcome(None), now=given.NOW)["replicas"] == 1


def test_a_group_that_restarts_says_why_until_a_leader_is_ready() -> None:
    coming = given.observed(SPREAD, pods=[given.pod("r", ready=False)], leader_worker_sets=True)
    assert available(coming, "why") == ("GroupRestarted", "why")
    there = given.observed(SPREAD, pods=[given.pod("r")], leader_worker_sets=True)
    assert available(there, "why")[0] == "EnginesReady"


def lost(
    known: Loss | None, *, leader: dict[str, Any], worker: dict[str, Any], now: str
) -> Loss | None:
    snapshot = given.observed(
        SPREAD,
        pods=[given.pod("r", name="chat-r-0", **leader)],
        workers=[given.pod("r", name="chat-r-0-1", worker=True, **worker)],
    )
    return groups.loss(snapshot, known, now=now)


ENDED = {"trouble": (Reason.ENGINE_FAILED, "exit code 137")}
FIRST, SECOND, THIRD = (f"2026-01-01T00:0{minute}:00Z" for minute in range(3))


def test_the_first_pod_of_a_group_that_ends_is_the_cause_until_the_next_group_is_ready() -> None:
    one = lost(None, leader={"created": FIRST}, worker={"created": FIRST, **ENDED}, now=SECOND)
    assert one is not None
    assert one.message == ("The group restarts because worker chat-r-0-1 failed: exit code 137")
    both = {"created": FIRST, **ENDED}
    assert lost(one, leader=both, worker=both, now=SECOND) == one
    still = {"created": THIRD, "ready": False}
    assert lost(one, leader=still, worker=still, now=THIRD) == one
    assert lost(one, leader={"created": THIRD}, worker={"created": THIRD}, now=THIRD) is None


@pytest.mark.parametrize("gone", [{"phase": "Failed"}, {"deleting": True}])
def test_an_evicted_worker_that_still_lies_there_is_reported_until_the_next_group_is_ready(
    gone: dict[str, Any],
) -> None:
    evicted = {
        "created": FIRST,
        "ready": False,
        "trouble": (Reason.EVICTED, "too much"),
        "gone_at": SECOND,
        **gone,
    }
    one = lost(None, leader={"created": FIRST, "ready": False}, worker=evicted, now=SECOND)
    assert one is not None
    assert one.message == "The group restarts because worker chat-r-0-1 failed: too much"
    assert lost(one, leader={"created": THIRD}, worker=evicted, now=THIRD) is None
    assert lost(None, leader={"created": THIRD}, worker=evicted, now=THIRD) is None


def test_a_loss_is_over_once_the_service_spans_nodes_no_more() -> None:
    ready = given.observed(pods=[given.pod("next", created=THIRD)])
    assert groups.loss(ready, Loss("old", SECOND), now=THIRD) is None
    starting = given.observed(pods=[given.pod("next", created=THIRD, ready=False)])
    assert groups.loss(starting, Loss("old", SECOND), now=THIRD) == Loss("old", SECOND)


@pytest.mark.parametrize(
    "reason", [Reason.UNSCHEDULABLE, Reason.IMAGE_PULL_FAILED, Reason.CONTAINER_CONFIG_ERROR]
)
def test_a_group_that_waits_to_start_is_not_lost(reason: str) -> None:
    waits = {"created": FIRST, "ready": False, "trouble": (reason, "not yet")}
    assert lost(None, leader=waits, worker=waits, now=SECOND) is None


def test_a_group_that_is_lost_again_says_the_new_cause() -> None:
    old = Loss("old", SECOND)
    again = {"created": THIRD, "ready": False, "trouble": (Reason.ENGINE_FAILED, "exit code 1")}
    found = lost(old, leader=again, worker={"created": THIRD, "ready": False}, now=THIRD)
    assert found is not None
    assert found.message == "The group restarts because leader chat-r-0 failed: exit code 1"
