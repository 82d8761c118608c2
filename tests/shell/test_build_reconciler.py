"""The reconciler of a ModelBuild creates its Job once, follows it, and writes only the status."""

from typing import Any

import pytest

from slipstream_operator import names
from slipstream_operator.core.builds.reports import Progress
from slipstream_operator.core.fetching import PROGRESS_EVERY
from slipstream_operator.core.observed import Ref
from slipstream_operator.shell.build_reconciler import CONFLICT_RETRY, BuildReconciler
from slipstream_operator.shell.store import Store
from tests.support import fakes, given, modelbuilds

JOB = Ref(names.JOB, given.NAMESPACE, "small.build")
CONFIG = Ref("ConfigMap", given.NAMESPACE, "small.build")


class World:
    """A reconciler, and a store that is fed by its cluster."""

    def __init__(self, **profile: Any) -> None:
        self.store, self.clock = Store(), fakes.Clock()
        self.cluster, self.events = fakes.Cluster(), fakes.Events()
        self.progress = fakes.Progress()
        self.cluster.on_change = lambda kind, body, gone: self.store.feed(kind, body, gone=gone)
        self.reconciler = BuildReconciler(
            store=self.store,
            cluster=self.cluster,
            events=self.events,
            progress=self.progress,
            clock=self.clock,
            telemetry=fakes.telemetry(),
        )
        self.has_profile(**profile)
        self.writes()

    def has_profile(self, **fields: Any) -> None:
        fields = {"images": modelbuilds.IMAGES, "defaultAccelerator": "cpu", **fields}
        self.store.feed(names.SERVING_PROFILE, fakes.profile_body(**fields), gone=False)

    def writes(self, status: dict[str, Any] | None = None) -> None:
        body = fakes.service_body(
            modelbuilds.SPEC, key=modelbuilds.KEY, uid=modelbuilds.UID, status=status
        )
        self.store.feed(names.MODEL_BUILD, body, gone=False)

    async def reconcile(self) -> float | None:
        """Reconcile, and feed the written status back at once."""
        self.cluster.calls.clear()
        written = len(self.cluster.statuses)
        again = await self.reconciler.reconcile(modelbuilds.KEY)
        if len(self.cluster.statuses) > written:
            self.writes(self.cluster.statuses[-1])
        return again

    def job_ends(self, kind: str) -> None:
        body = {**self.cluster.objects[JOB], "status": modelbuilds.ended(kind)}
        self.store.feed(names.JOB, body, gone=False)

    def pod(self, stages: dict[str, dict[str, Any]], *, phase: str, gone: bool = False) -> None:
        """The kubelet reports the pod of the Job; `stages` are the states of its containers."""
        statuses = [
            {"name": name, "image": "i", "state": stages.get(name, {"waiting": {}})}
            for name in modelbuilds.STAGES
        ]
        body = {
            "metadata": {
                "name": "small.build-x",
                "namespace": given.NAMESPACE,
                "uid": "uid-of-pod",
                "creationTimestamp": given.CREATED,
                "labels": names.build_labels("small"),
                "ownerReferences": [
                    {
                        "kind": names.JOB,
                        "name": JOB.name,
                        "uid": self.cluster.objects[JOB]["metadata"]["uid"],
                        "controller": True,
                    }
                ],
            },
            "status": {
                "phase": phase,
                "podIP": "10.0.0.7",
                "initContainerStatuses": statuses[:-1],
                "containerStatuses": statuses[-1:],
            },
        }
        self.store.feed("Pod", body, gone=gone)

    @property
    def status(self) -> dict[str, Any]:
        return self.cluster.statuses[-1]


def _done(name: str) -> dict[str, Any]:
    message = modelbuilds.stage(name).message
    return {"terminated": {"exitCode": 0, "message": message}}


FINISHED = {name: _done(name) for name in modelbuilds.STAGES}


async def test_a_build_from_its_job_to_its_artifact() -> None:
    world = World()
    assert await world.reconcile() is None
    kinds = {ref.kind for ref in world.cluster.objects}
    assert kinds == {names.JOB, "ConfigMap", "NetworkPolicy"}
    assert world.status["phase"] == "Pending"

    world.pod({"source": {"running": {}}}, phase="Pending")
    world.progress.stage_answer = Progress(stage="source", done=1, total=2)
    assert await world.reconcile() == PROGRESS_EVERY
    assert world.status["progress"] == {"percent": "50%"}

    world.pod(FINISHED, phase="Succeeded")
    world.job_ends("Complete")
    assert await world.reconcile() is None
    assert world.status["artifact"]["uri"] == "pvc://models/small"
    assert [event.reason for event in world.events.posted] == ["Published"]
    assert await world.reconcile() is None
    assert world.cluster.calls == []


async def test_a_change_of_the_profile_leaves_a_running_build_alone() -> None:
    world = World()
    await world.reconcile()
    before = {ref: body for ref, body in world.cluster.objects.items() if ref in (JOB, CONFIG)}
    world.has_profile(images={**modelbuilds.IMAGES, "builder": "image/builder:2"})
    await world.reconcile()
    assert {ref: world.cluster.objects[ref] for ref in before} == before
    world.has_profile(images={})
    await world.reconcile()
    assert world.status["phase"] == "Pending"
    assert all(one["status"] == "True" for one in world.status["conditions"][1:])


async def test_a_deleted_job_is_created_again_while_the_build_is_unfinished() -> None:
    world = World()
    await world.reconcile()
    await world.cluster.delete(JOB, uid=world.cluster.objects[JOB]["metadata"]["uid"])
    await world.reconcile()
    assert ("create", str(JOB)) in world.cluster.calls


async def test_the_job_of_a_finished_build_may_be_deleted() -> None:
    world = World()
    await world.reconcile()
    world.pod(FINISHED, phase="Succeeded")
    world.job_ends("Complete")
    await world.reconcile()
    await world.cluster.delete(JOB, uid=world.cluster.objects[JOB]["metadata"]["uid"])
    await world.reconcile()
    assert world.cluster.calls == []
    assert world.status["phase"] == "Ready"


async def test_a_job_whose_report_is_lost_runs_again() -> None:
    world = World()
    await world.reconcile()
    world.job_ends("Complete")
    await world.reconcile()
    assert JOB not in world.cluster.objects
    await world.reconcile()
    assert JOB in world.cluster.objects


async def test_a_refused_build_has_no_job_until_the_profile_admits_it() -> None:
    world = World(images={})
    await world.reconcile()
    assert world.cluster.objects == {}
    assert world.status["conditions"][1]["reason"] == "ImageMissing"
    world.has_profile()
    await world.reconcile()
    assert JOB in world.cluster.objects
    assert world.status["conditions"][1]["status"] == "True"


@pytest.mark.parametrize("ref", [JOB, CONFIG])
async def test_a_foreign_object_with_the_name_of_a_child_is_left_alone(ref: Ref) -> None:
    world = World()
    world.cluster.strangers(ref)
    assert await world.reconcile() == CONFLICT_RETRY
    assert world.status["conditions"][0]["reason"] == "NameConflict"
    assert world.cluster.objects[ref] == {"metadata": {"uid": "uid-of-a-stranger"}}
    if ref == CONFIG:
        assert JOB not in world.cluster.objects


async def test_a_missing_recipe_is_written_again_for_the_next_pod() -> None:
    world = World()
    await world.reconcile()
    await world.cluster.delete(CONFIG, uid=world.cluster.objects[CONFIG]["metadata"]["uid"])
    await world.reconcile()
    assert CONFIG in world.cluster.objects


async def test_a_fault_is_reported_in_the_status() -> None:
    world = World()
    await world.reconcile()
    world.store.feed(names.JOB, {**world.cluster.objects[JOB], "spec": {}}, gone=False)
    with pytest.raises(KeyError):
        await world.reconcile()
    assert world.status["conditions"][-1]["reason"] == "ReconcileFailed"


async def test_an_edited_recipe_is_no_fault_of_the_operator() -> None:
    world = World()
    await world.reconcile()
    edited = {**world.cluster.objects[CONFIG], "data": {"build.json": "{"}}
    world.store.feed("ConfigMap", edited, gone=False)
    await world.reconcile()
    assert world.status["phase"] == "Pending"
