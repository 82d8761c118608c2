"""Pods that have ended count nowhere, whatever else their status says."""

import asyncio
from typing import Any

from hypothesis import given as over

from slipstream_operator.core import pod_failures
from slipstream_operator.names import Reason
from slipstream_operator.shell import projections
from tests.support import ended_pods, fakes, given
from tests.support.reconciles import DIRECT, OLD, World
from tests.support.scalers import Loop, busy

OTHER = "0ther"
RECREATE: dict[str, Any] = {"model": given.MODEL, "rollout": {"strategy": "Recreate"}, **DIRECT}
"""A service that starts no engine before those of the old revision are gone."""
CHANGED: dict[str, Any] = {**RECREATE, "resources": {"limits": {"memory": "64Gi"}}}
FIGURES = ("replicas", "readyReplicas", "revision", "engine", "scaling", "url")


@over(ended_pods.bodies(phases=(*pod_failures.ENDED, *ended_pods.LIVING), revisions=(OLD,)))
def test_a_pod_is_current_until_it_ends_or_is_deleted(body: dict[str, Any]) -> None:
    pod = projections.pod(body)
    is_deleting = "deletionTimestamp" in body["metadata"]
    assert pod.ended == (body["status"]["phase"] in ("Failed", "Succeeded"))
    assert pod.current == (not pod.ended and not is_deleting)
    if pod.trouble is not None:
        reason, message = pod.trouble
        assert reason in vars(Reason).values()
        assert 0 < len(message) <= pod_failures.MESSAGE_LENGTH


@over(ended_pods.ended(OLD, OTHER))
def test_an_ended_pod_changes_no_scaling_decision(bodies: list[dict[str, Any]]) -> None:
    decisions = []
    for fed in ([], bodies):
        loop = Loop(busy())
        service = loop.serve()
        assert service.rollout is not None
        for body in fed:
            labels = body["metadata"]["labels"]
            labels |= {key: service.rollout.active for key, value in labels.items() if value == OLD}
            loop.store.feed("Pod", body, gone=False)
        for _ in range(3):
            loop.clock.seconds += 5
            asyncio.run(loop.scaler.tick())
        decisions.append(
            (service.scaling.decision, service.scaling.state, service.scaling.measured)
        )
    without, beside = decisions
    assert beside == without


@over(ended_pods.ended(OLD, OTHER))
def test_an_ended_pod_changes_no_object_and_no_figure(bodies: list[dict[str, Any]]) -> None:
    alone, beside = World(RECREATE), World(RECREATE)
    for body in bodies:
        beside.store.feed("Pod", body, gone=False)
    _same(alone, beside, message=False)
    for world in (alone, beside):
        world.starts_pods(OLD)
    _same(alone, beside, message=True)
    for world in (alone, beside):
        world.writes(CHANGED, generation=2)
    _same(alone, beside, message=True)
    for world in (alone, beside):
        (pod,) = world.store.pods(given.KEY)
        body = fakes.pod_body(OLD, name=pod.name)
        world.store.feed("Pod", body, gone=True)
    _same(alone, beside, message=False)
    deployments = [ref.name for ref in beside.cluster.objects if ref.kind == "Deployment"]
    assert deployments != [f"{given.NAME}-{OLD}"]


def _same(alone: World, beside: World, *, message: bool) -> None:
    """Reconcile both, and compare what they write: the objects, the figures and the conditions."""
    for world in (alone, beside):
        asyncio.run(world.reconcile())
    assert beside.cluster.objects == alone.cluster.objects
    statuses = [world.cluster.statuses[-1] for world in (alone, beside)]
    one, other = ({name: status.get(name) for name in FIGURES} for status in statuses)
    assert other == one
    conditions = [
        {
            entry["type"]: (entry["status"], entry["message"] if message else None)
            for entry in status["conditions"]
        }
        for status in statuses
    ]
    assert conditions[1] == conditions[0]
