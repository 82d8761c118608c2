"""A service whose images are prefetched onto nodes, from the Job to the status, as the reconciler sees it."""

from typing import Any

from slipstream_operator import names
from slipstream_operator.names import Condition, Reason
from tests.shell.test_service_reconciler import World
from tests.support import fakes, given

SPEC: dict[str, Any] = {
    "model": {"uri": "oci://registry.local/m:1"},
    "replicas": 2,
    "cache": {"prefetch": True},
    "template": {"nodeSelector": {"pool": "gpus"}},
}
PROFILE = fakes.profile_body(sources={"allow": ["*"]})


def world() -> World:
    found = World(SPEC)
    found.store.feed(names.SERVING_PROFILE, PROFILE, gone=False)
    return found


def jobs(world: World) -> list[dict[str, Any]]:
    return [body for ref, body in world.cluster.objects.items() if ref.kind == names.JOB]


def ends(world: World, node: str | None, **status: Any) -> None:
    """The kubelet of the node, or the scheduler, reports on a pod of the Job."""
    (job,) = jobs(world)
    task = job["metadata"]["labels"][names.TASK_LABEL]
    world.store.feed("Pod", fakes.prefetcher_body(task, node=node, status=status), gone=False)


def message(world: World) -> str:
    found: list[str] = [
        entry["message"]
        for entry in world.cluster.statuses[-1]["conditions"]
        if entry["type"] == Condition.MODEL_READY
    ]
    return found[0]


async def test_engines_start_beside_the_job_and_status_counts_the_nodes() -> None:
    there = world()
    await there.reconcile()
    (job,) = jobs(there)
    assert job["spec"]["completions"] == 2
    (deployment,) = (
        body for ref, body in there.cluster.objects.items() if ref.kind == "Deployment"
    )
    assert deployment["spec"]["replicas"] == 2
    assert message(there).endswith("Prefetch: 0 of 2 nodes have the images.")

    ends(there, "a", phase="Succeeded")
    await there.reconcile()
    assert message(there).endswith("Prefetch: 1 of 2 nodes have the images.")
    assert there.condition(Condition.MODEL_READY) == ("False", Reason.NOT_LOADED)


async def test_a_pod_that_no_node_takes_or_that_fails_is_no_failure_of_the_service() -> None:
    there = world()
    await there.reconcile()
    (job,) = jobs(there)
    (revision,) = {
        labels[names.REVISION_LABEL]
        for body in there.cluster.objects.values()
        if names.REVISION_LABEL in (labels := body["metadata"]["labels"])
    }
    for name in ("one", "two"):
        there.store.feed("Pod", fakes.pod_body(revision, name=name), gone=False)
    unschedulable = {
        "type": "PodScheduled",
        "status": "False",
        "message": "0/4 nodes are available",
    }
    ends(there, None, phase="Pending", conditions=[unschedulable])
    await there.reconcile()
    assert there.condition(Condition.MODEL_READY) == ("True", Reason.LOADED)
    assert "have the images, Unschedulable: 0/4 nodes" in message(there)

    failed = {"exitCode": 1, "message": "oci://registry.local/m:1: the image is empty."}
    ends(
        there,
        None,
        phase="Failed",
        containerStatuses=[{"name": "prefetch", "state": {"terminated": failed}}],
    )
    await there.reconcile()
    assert message(there).endswith("FetchFailed: oci://registry.local/m:1: the image is empty.")
    assert there.condition(Condition.MODEL_READY)[0] == "True"
    assert jobs(there) == [job]


async def test_pods_that_pull_are_no_download_that_engines_wait_for() -> None:
    there = world()
    await there.reconcile()
    ends(there, "a", phase="Succeeded")
    await there.reconcile()
    assert there.states.of(given.KEY).fetched is None
