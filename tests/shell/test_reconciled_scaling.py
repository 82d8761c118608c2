"""Replica counts in a reconcile: decisions, bounds, speculation, wake-up and quota."""

import dataclasses
from typing import Any

from slipstream_operator import names
from slipstream_operator.api import units
from slipstream_operator.core import speculation
from slipstream_operator.core.observed import Ref
from slipstream_operator.core.tick import Scaling
from tests.support import fakes, given
from tests.support.reconciles import DEPLOYMENT, DIRECT, OLD, SCALED, World


async def test_before_anything_is_measured_the_minimum_runs() -> None:
    world = World(SCALED)
    await world.reconcile()
    assert world.cluster.objects[DEPLOYMENT]["spec"]["replicas"] == 2


async def test_after_a_restart_the_last_decision_holds() -> None:
    world = World(SCALED)
    await world.reconcile()
    service = world.states.of(given.KEY)
    service.record(Scaling(state=given.state(4, reason="load grew")))
    await world.reconcile()
    world.states.forget(given.KEY)
    await world.reconcile()
    assert world.cluster.objects[DEPLOYMENT]["spec"]["replicas"] == 4


async def test_without_a_saved_state_the_running_replicas_hold() -> None:
    world = World({**SCALED, "scaling": {"maxReplicas": 5}})
    await world.reconcile()
    deployment = world.cluster.objects[DEPLOYMENT]
    deployment["spec"]["replicas"] = 3
    world.store.feed("Deployment", deployment, gone=False)
    world.cluster.objects[state := Ref("ConfigMap", "team", "chat-state")]["data"] = {}
    world.store.feed("ConfigMap", world.cluster.objects[state], gone=False)
    world.states.forget(given.KEY)
    await world.reconcile()
    assert world.cluster.objects[DEPLOYMENT]["spec"]["replicas"] == 3


async def test_a_recommendation_changes_nothing_but_the_status() -> None:
    world = World({**SCALED, "scaling": {"maxReplicas": 5, "mode": "Recommend"}})
    await world.reconcile()
    service = world.states.of(given.KEY)
    service.record(Scaling(state=given.state(4)))
    await world.reconcile()
    assert world.cluster.objects[DEPLOYMENT]["spec"]["replicas"] == 1
    assert world.cluster.statuses[-1]["scaling"]["desired"] == 4


async def test_changed_bounds_are_applied_without_waiting_for_metrics() -> None:
    world = World(SCALED)
    await world.reconcile()
    world.writes({**SCALED, "scaling": {"minReplicas": 3, "maxReplicas": 5}})
    await world.reconcile()
    assert world.cluster.objects[DEPLOYMENT]["spec"]["replicas"] == 3


SPECULATING: dict[str, Any] = {
    "model": given.MODEL,
    "speculation": {"method": "ngram", "disableBelowAcceptance": "30%"},
}


async def test_speculation_that_does_not_pay_off_is_disabled_reported_and_saved() -> None:
    world = World(SPECULATING)
    await world.reconcile()
    found = speculation.identity(given.resolved(SPECULATING).revisioned)
    assert found is not None
    service = world.states.of(given.KEY)
    off = speculation.SwitchedOff(found, 0.1)
    service.record(dataclasses.replace(service.scaling, disabled_speculation=off))
    await world.reconcile()
    reasons = [event.reason for event in world.events.posted]
    assert {"RevisionCreated", "SpeculationDisabled"} <= set(reasons)
    engine = world.cluster.statuses[-1]["engine"]
    assert "speculation" not in engine
    assert engine["speculationDisabled"].startswith("ngram, 4 tokens: 10.0% of the draft tokens")
    world.states.forget(given.KEY)
    await world.reconcile()
    assert world.states.of(given.KEY).scaling.disabled_speculation == speculation.SwitchedOff(
        found, 0.1
    )


IDLE: dict[str, Any] = {
    "model": given.MODEL,
    "scaling": {"minReplicas": 0, "idleAfter": "5m", "maxReplicas": 2},
}


async def test_a_renewed_lease_activates_a_service_at_zero_at_once() -> None:
    world = World(IDLE)
    await world.reconcile()
    assert world.cluster.objects[DEPLOYMENT]["spec"]["replicas"] == 1
    service = world.states.of(given.KEY)
    service.record(Scaling(state=given.state(0, reason="nobody asked for 5m")))
    await world.reconcile()
    assert world.cluster.objects[DEPLOYMENT]["spec"]["replicas"] == 0
    lease = world.cluster.objects[Ref("Lease", given.NAMESPACE, "chat-activation")]
    renewed = units.timestamp(world.clock.now())
    concerned = world.store.feed("Lease", {**lease, "spec": {"renewTime": renewed}}, gone=False)
    assert list(concerned) == [given.KEY]
    await world.reconcile()
    assert world.cluster.objects[DEPLOYMENT]["spec"]["replicas"] == 1
    assert world.cluster.statuses[-1]["scaling"]["reason"] == "Requests wait for a first replica."


async def test_an_old_renewal_activates_no_service() -> None:
    world = World(IDLE)
    await world.reconcile()
    service = world.states.of(given.KEY)
    service.record(Scaling(state=given.state(0)))
    service.renewal = None  # as after a restart of the operator
    lease = world.cluster.objects[Ref("Lease", given.NAMESPACE, "chat-activation")]
    renewed = units.timestamp(world.clock.now() - 3600)
    world.store.feed("Lease", {**lease, "spec": {"renewTime": renewed}}, gone=False)
    await world.reconcile()
    assert world.cluster.objects[DEPLOYMENT]["spec"]["replicas"] == 0


async def test_a_running_service_without_quota_left_runs_no_replica_and_reports_it() -> None:
    world = World({"model": given.MODEL, **DIRECT})
    await world.reconcile()
    deployment = Ref("Deployment", given.NAMESPACE, f"chat-{OLD}")
    assert world.cluster.objects[deployment]["spec"]["replicas"] == 1
    limits = {"maxAcceleratorsPerNamespace": 0}
    world.store.feed(names.SERVING_PROFILE, fakes.profile_body(limits=limits), gone=False)
    await world.reconcile()
    assert world.cluster.objects[deployment]["spec"]["replicas"] == 0
    assert world.condition("Accepted") == ("False", "QuotaExceeded")
    assert world.condition("Available") == ("False", "QuotaExceeded")
