"""Rollouts in steps, through reconciles of the service and its router. The operator restarts between any two."""

import math
from typing import Any

import pytest

from slipstream_operator import kinds, names
from slipstream_operator.core.comparison import collection
from slipstream_operator.core.comparison.collection import Collected, Comparison
from slipstream_operator.core.observed import Ref
from slipstream_operator.core.scaling.metrics.values import Sample
from slipstream_operator.shell.queue import Queue
from slipstream_operator.shell.router_reconciler import RouterReconciler
from slipstream_operator.shell.service_reconciler import ServiceReconciler
from slipstream_operator.shell.service_states import ServiceStates
from slipstream_operator.shell.store import Store
from slipstream_runtime import contract
from tests.support import fakes, given

ROLLOUT: dict[str, Any] = {
    "steps": ["10%", "50%"],
    "pause": "1m",
    "analysis": {"maxDuration": "1h"},
}


def spec(model: str, **fields: Any) -> dict[str, Any]:
    return {"model": {"uri": f"hf://org/{model}"}, "rollout": ROLLOUT, **fields}


OLD, NEW, OTHER = spec("old"), spec("new"), spec("other")
A, B, C = (given.identity(each) for each in (OLD, NEW, OTHER))
STATE = Ref("ConfigMap", given.NAMESPACE, "chat-state")


def _samples(comparison: Comparison, revision: str, mean: float) -> list[Sample]:
    """What a router exports about 2000 requests of a revision, whose times are around `mean`."""
    labels = {
        "pod": "router-0", "since": str(comparison.since + 1), "revision": f"chat-{revision}",
        "weight": str(comparison.weights[revision]),
    }  # fmt: skip
    center, count = math.log(mean), 2000.0
    latency = zip(
        contract.STATISTICS, (count, count * center, count * (center**2 + 0.04)), strict=True
    )
    counts = {"requests": count, "errors": 0.0, "cancelled": 0.0}
    return [
        *(
            Sample({**labels, "measure": measure, "statistic": contract.COUNT}, value)
            for measure, value in counts.items()
        ),
        *(
            Sample({**labels, "measure": measure, "statistic": statistic, "stratum": "4"}, value)
            for statistic, value in latency
            for measure in ("ttft", "tpot", "e2e")
        ),
    ]


class World:
    """A cluster with an operator that can be killed."""

    def __init__(self, *, restarts: bool) -> None:
        self.cluster, self.clock, self.events = fakes.Cluster(), fakes.Clock(), fakes.Events()
        self.cluster.on_change = self._seen
        self.restarts = restarts
        self.body: dict[str, Any] = {}
        self.pods: dict[str, list[str]] = {}
        self.ratio: float | None = None
        self.starts_operator()

    def starts_operator(self) -> None:
        """Start an operator that knows only the objects of the cluster."""
        self.store, self.states, self.queue = Store(), ServiceStates(), Queue()
        common: dict[str, Any] = {
            "store": self.store,
            "states": self.states,
            "queue": self.queue,
            "cluster": self.cluster,
            "clock": self.clock,
            "telemetry": fakes.telemetry(),
        }
        self.services = ServiceReconciler(events=self.events, progress=fakes.Progress(), **common)
        self.routers = RouterReconciler(**common)
        self.store.feed(names.SERVING_PROFILE, fakes.profile_body(), gone=False)
        for ref, body in list(self.cluster.objects.items()):
            self._seen(ref.kind, body, False)
        if self.body:
            self.store.feed(names.INFERENCE_SERVICE, self.body, gone=False)
        for revision, pods in self.pods.items():
            for name in pods:
                self.store.feed("Pod", fakes.pod_body(revision, name=name), gone=False)

    def _seen(self, kind: str, body: dict[str, Any], gone: bool) -> None:
        if kind == "Deployment":  # the router is available at once
            body = {**body, "status": {"availableReplicas": body["spec"]["replicas"]}}
        if kinds.BY_NAME[kind].read == "watched":
            self.store.feed(kind, body, gone=gone)

    def writes(self, given_spec: dict[str, Any], **annotations: str) -> None:
        """The user applies the object."""
        self.body = fakes.service_body(given_spec, status=self.body.get("status"))
        self.body["metadata"]["annotations"] = {
            f"slipstream.dev/{name}": value for name, value in annotations.items()
        }
        self.store.feed(names.INFERENCE_SERVICE, self.body, gone=False)

    async def reconcile(self, *, after: float = 0.0) -> None:
        """Reconcile the service and its router until nothing changes, with a new operator each time."""
        self.clock.seconds += after
        for _ in range(6):
            before = len(self.cluster.calls)
            if self.restarts:
                self.starts_operator()
            await self.services.reconcile(given.KEY)
            self.scrapes()
            await self.services.reconcile(given.KEY)
            await self.routers.reconcile(given.NAMESPACE)
            if not self.runs_pods() and len(self.cluster.calls) == before:
                break
        if self.cluster.statuses:
            self.body["status"] = self.cluster.statuses[-1]
            self.store.feed(names.INFERENCE_SERVICE, self.body, gone=False)

    def runs_pods(self) -> bool:
        """Run the pods that the Deployments ask for, all of them ready; return whether that changed any."""
        wanted: dict[str, list[str]] = {}
        for ref, body in self.cluster.objects.items():
            revision = body["metadata"].get("labels", {}).get(names.REVISION_LABEL)
            if ref.kind == "Deployment" and revision:
                count = body["spec"]["replicas"]
                wanted[revision] = [f"pod-{revision}-{index}" for index in range(count)]
        for revision, pods in self.pods.items():
            for name in set(pods) - set(wanted.get(revision, ())):
                self.store.feed("Pod", fakes.pod_body(revision, name=name), gone=True)
        changed, self.pods = wanted != self.pods, wanted
        for revision, pods in wanted.items():
            for name in pods:
                self.store.feed("Pod", fakes.pod_body(revision, name=name), gone=False)
        return changed

    def measures(self, ratio: float) -> None:
        """From now on the new revision takes `ratio` times as long as the old one."""
        self.ratio = ratio

    def scrapes(self) -> None:
        """Collect what the router counted since the weights changed: 2000 requests of each revision."""
        service = self.states.of(given.KEY)
        comparison = service.comparison
        if comparison is None or self.ratio is None:
            return
        means = {comparison.stable: 0.04, comparison.canary: 0.04 * self.ratio}
        samples = [
            sample
            for revision, mean in means.items()
            for sample in _samples(comparison, revision, mean)
        ]
        collected = Collected(comparison)
        service.collected = collection.collect(collected, samples, service=given.NAME)

    def weights(self) -> dict[str, int]:
        """The router's weights of the revisions."""
        entry = self.store.listed(given.KEY).entry
        assert entry is not None
        return {each["name"].removeprefix("chat-"): each["weight"] for each in entry["revisions"]}

    def replicas(self) -> dict[str, int]:
        return {revision: len(pods) for revision, pods in self.pods.items()}

    def status(self) -> dict[str, Any]:
        return self.cluster.statuses[-1]

    def condition(self, kind: str) -> dict[str, Any] | None:
        return next((each for each in self.status()["conditions"] if each["type"] == kind), None)

    def posted(self) -> list[str]:
        rollout = ("Rollout", "RolledBack")
        return [event.reason for event in self.events.posted if event.reason.startswith(rollout)]


@pytest.fixture(params=[False, True], ids=["one operator", "a new operator at each look"])
async def world(request: pytest.FixtureRequest) -> World:
    """A service that runs its first revision."""
    found = World(restarts=request.param)
    found.writes({**OLD, "replicas": 2})
    await found.reconcile()
    assert found.weights() == {A: 100}
    return found


async def test_a_change_is_promoted_step_by_step(world: World) -> None:
    world.writes({**NEW, "replicas": 2})
    await world.reconcile()
    assert (world.weights(), world.replicas()) == ({A: 90, B: 10}, {A: 2, B: 1})
    world.measures(1.0)
    await world.reconcile(after=59.0)
    assert world.weights() == {A: 90, B: 10}
    await world.reconcile(after=1.0)
    assert (world.weights(), world.replicas()) == ({A: 50, B: 50}, {A: 2, B: 2})
    await world.reconcile(after=60.0)
    assert (world.weights(), world.replicas()) == ({B: 100}, {B: 2})
    assert world.posted() == ["RolloutStep", "RolloutStep", "RolloutPromoted"]
    assert STATE not in world.cluster.objects
    assert "revisions" not in world.status()


async def test_a_worse_revision_is_rolled_back_and_stays_rejected(world: World) -> None:
    world.writes({**NEW, "replicas": 2})
    await world.reconcile()
    world.measures(1.3)
    await world.reconcile(after=1.0)
    assert (world.weights(), world.replicas()) == ({A: 100}, {A: 2})
    stalled = world.condition("Stalled")
    assert stalled is not None
    assert stalled["reason"] == "RolledBack"
    assert f"Revision {B} is worse than revision {A}: ttft +30.0%" in stalled["message"]
    assert world.condition("Reconciling") is None
    ready = world.condition("Ready")
    assert ready is not None
    assert ready["status"] == "True"
    world.measures(1.0)
    await world.reconcile(after=86400.0)
    assert (world.weights(), world.replicas()) == ({A: 100}, {A: 2})
    assert world.posted() == ["RolloutStep", "RolledBack"]


async def test_status_shows_both_revisions_and_the_step(world: World) -> None:
    world.writes({**NEW, "replicas": 2})
    await world.reconcile()
    world.measures(1.0)
    await world.reconcile(after=1.0)
    stable, canary = world.status()["revisions"]
    assert stable == {
        "name": f"chat-{A}", "hash": A, "weight": 90, "replicas": 2, "role": "Stable"
    }  # fmt: skip
    since = canary.pop("since")
    assert since < given.NOW.replace("2026", "2027")
    assert canary | {"message": ""} == {
        "name": f"chat-{B}", "hash": B, "weight": 10, "replicas": 1, "role": "Canary",
        "phase": "Comparing", "step": "1 of 2", "verdict": "NotWorse", "message": "",
    }  # fmt: skip
    reconciling = world.condition("Reconciling")
    assert reconciling is not None
    assert reconciling["message"].startswith(f"Step 1 of 2: revision {B} gets 10% of the requests.")


async def test_without_measurements_a_step_is_held(world: World) -> None:
    world.writes({**NEW, "replicas": 2})
    await world.reconcile()
    await world.reconcile(after=7200.0)
    assert world.weights() == {A: 90, B: 10}
    reconciling = world.condition("Reconciling")
    assert reconciling is not None
    assert reconciling["reason"] == "RolloutHeld"
    assert "There are no measurements of both revisions." in reconciling["message"]
    assert world.posted() == ["RolloutStep", "RolloutHeld"]


async def test_a_reverted_spec_goes_back_without_new_pods(world: World) -> None:
    world.writes({**NEW, "replicas": 2})
    await world.reconcile()
    pods = set(world.pods[A])
    world.cluster.calls.clear()
    world.writes({**OLD, "replicas": 2})
    await world.reconcile()
    assert (world.weights(), world.replicas()) == ({A: 100}, {A: 2})
    assert set(world.pods[A]) == pods
    changed = {what for verb, what in world.cluster.calls if verb in ("create", "delete")}
    assert not any(A in what for what in changed)
    assert "revisions" not in world.status()


async def test_annotations_promote_abort_and_retry(world: World) -> None:
    world.writes({**NEW, "replicas": 2})
    await world.reconcile()
    world.writes({**NEW, "replicas": 2}, abort=B)
    await world.reconcile()
    assert (world.weights(), world.replicas()) == ({A: 100}, {A: 2})
    stalled = world.condition("Stalled")
    assert stalled is not None
    assert stalled["reason"] == "RolloutAborted"
    world.writes({**NEW, "replicas": 2}, abort=B, retry=B)
    await world.reconcile()
    assert world.weights() == {A: 90, B: 10}
    world.writes({**NEW, "replicas": 2}, abort=B, retry=B, promote=f"chat-{B}")
    await world.reconcile()
    assert (world.weights(), world.replicas()) == ({B: 100}, {B: 2})
    assert world.posted() == [
        "RolloutStep", "RolloutAborted", "RolloutRetried", "RolloutStep", "RolloutPromoting",
        "RolloutPromoted",
    ]  # fmt: skip


async def test_a_rejected_revision_keeps_the_stored_one_as_it_is(world: World) -> None:
    world.writes({**NEW, "replicas": 2})
    await world.reconcile()
    world.measures(1.3)
    await world.reconcile(after=1.0)
    config = Ref("ConfigMap", given.NAMESPACE, f"chat-{A}")
    before = world.cluster.objects[config]["data"]
    assert "hf://org/old" in before["engine.json"]
    await world.cluster.delete(config, uid=world.cluster.objects[config]["metadata"]["uid"])
    await world.reconcile()
    found = world.cluster.objects.get(config)
    assert found is None or found["data"] == before
    assert world.replicas() == {A: 2}


async def test_another_spec_after_a_rollback_is_tried(world: World) -> None:
    world.writes({**NEW, "replicas": 2})
    await world.reconcile()
    world.measures(1.3)
    await world.reconcile(after=1.0)
    world.measures(1.0)
    world.writes({**OTHER, "replicas": 2})
    await world.reconcile()
    assert (world.weights(), world.replicas()) == ({A: 90, C: 10}, {A: 2, C: 1})


async def test_without_surge_an_old_replica_stops_for_the_new_one(world: World) -> None:
    rollout = {**ROLLOUT, "surge": 0}
    world.writes({**OLD, "replicas": 2, "rollout": rollout})
    await world.reconcile()
    world.writes({**NEW, "replicas": 2, "rollout": rollout})
    await world.reconcile()
    assert (world.weights(), world.replicas()) == ({A: 90, B: 10}, {A: 1, B: 1})
    world.measures(1.3)
    await world.reconcile(after=1.0)
    assert (world.weights(), world.replicas()) == ({A: 100}, {A: 2})


async def test_one_replica_without_surge_says_why_nothing_starts(world: World) -> None:
    rollout = {**ROLLOUT, "surge": 0}
    world.writes({**NEW, "replicas": 1, "rollout": rollout})
    await world.reconcile()
    assert (world.weights(), world.replicas()) == ({A: 100, B: 0}, {A: 1, B: 0})
    reconciling = world.condition("Reconciling")
    assert reconciling is not None
    assert "spec.rollout.surge: 0 can't work with 1 replica" in reconciling["message"]
