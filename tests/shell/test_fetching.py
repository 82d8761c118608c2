"""A service whose model is downloaded first, from the Job to the engines, as the reconciler sees it."""

import json
from typing import Any

from slipstream_operator import names
from slipstream_operator.core import facts
from slipstream_operator.core.fetching import Progress
from slipstream_operator.core.observed import Ref
from slipstream_operator.names import Condition, Reason
from tests.shell.test_service_reconciler import World
from tests.support import fakes, given

SPEC: dict[str, Any] = {
    "model": {"uri": "hf://org/model"},
    "cache": {"model": {"claim": {"name": "models"}}},
}
REPORT = json.dumps({"model": {"uri": "hf://org/model", "bytes": 16}})


def objects(world: World, kind: str) -> list[dict[str, Any]]:
    return [body for ref, body in world.cluster.objects.items() if ref.kind == kind]


def condition(world: World, kind: str) -> dict[str, Any]:
    return next(
        entry for entry in world.cluster.statuses[-1]["conditions"] if entry["type"] == kind
    )


def running(world: World, **container: Any) -> None:
    (job,) = objects(world, names.JOB)
    status = {
        "phase": container.pop("phase", "Running"),
        "podIP": "10.0.0.9",
        "containerStatuses": [{"name": "fetch", **container}],
    }
    body = fakes.fetcher_body(job["metadata"]["labels"][names.TASK_LABEL], status=status)
    world.store.feed("Pod", body, gone=False)


async def test_engines_start_and_the_job_is_deleted_after_the_download() -> None:
    world = World(SPEC)
    assert await world.reconcile() == 10.0
    (deployment,) = objects(world, "Deployment")
    assert deployment["spec"]["replicas"] == 0
    assert condition(world, Condition.MODEL_READY)["reason"] == Reason.FETCHING

    world.progress.answer = Progress(total=1 << 30, done=1 << 29, rate=1 << 20)
    running(world, state={"running": {}})
    await world.reconcile()
    said = condition(world, Condition.MODEL_READY)["message"]
    assert said == "hf://org/model: downloading, 50% of 1.0 GiB, 1.0 MiB/s."

    running(world, phase="Succeeded", state={"terminated": {"exitCode": 0, "message": REPORT}})
    await world.reconcile()
    (deployment,) = objects(world, "Deployment")
    assert deployment["spec"]["replicas"] == 1
    assert objects(world, names.JOB) == []
    state = world.cluster.objects[Ref("ConfigMap", given.NAMESPACE, names.state_name(given.NAME))]
    assert json.loads(state["data"]["fetched.json"])["report"] == REPORT


async def test_a_failed_download_is_reported_and_engines_still_wait() -> None:
    world = World(SPEC)
    await world.reconcile()
    failed = {"exitCode": 1, "message": "hf://org/model: is gated and there is no token.\n"}
    running(
        world,
        state={"waiting": {"reason": "CrashLoopBackOff"}},
        lastState={"terminated": failed},
        restartCount=2,
    )
    await world.reconcile()
    shown = condition(world, Condition.MODEL_READY)
    assert (shown["status"], shown["reason"]) == ("False", Reason.FETCH_FAILED)
    assert shown["message"] == "hf://org/model: is gated and there is no token. (tried 3 times)"
    assert condition(world, Condition.READY)["reason"] == Reason.FETCH_FAILED
    (deployment,) = objects(world, "Deployment")
    assert deployment["spec"]["replicas"] == 0


async def test_a_new_leader_restores_the_completed_download() -> None:
    world = World(SPEC)
    await world.reconcile()
    running(world, phase="Succeeded", state={"terminated": {"exitCode": 0, "message": REPORT}})
    await world.reconcile()
    world.states.forget(given.KEY)
    await world.reconcile()
    assert objects(world, names.JOB) == []
    fetched = world.states.of(given.KEY).fetched
    assert fetched is not None
    assert fetched.facts == facts.parse(REPORT)


async def test_containers_added_by_a_webhook_are_ignored() -> None:
    world = World(SPEC)
    await world.reconcile()
    (job,) = objects(world, names.JOB)
    task = job["metadata"]["labels"][names.TASK_LABEL]
    mesh = {"name": "a-mesh", "state": {"terminated": {"exitCode": 0, "message": "bye"}}}
    done = {"name": "fetch", "state": {"terminated": {"exitCode": 0, "message": REPORT}}}
    status = {"phase": "Succeeded", "containerStatuses": [mesh, done]}
    world.store.feed("Pod", fakes.fetcher_body(task, status=status), gone=False)
    await world.reconcile()
    state = world.cluster.objects[Ref("ConfigMap", given.NAMESPACE, names.state_name(given.NAME))]
    assert json.loads(state["data"]["fetched.json"])["report"] == REPORT


async def test_the_completed_download_of_engines_that_go_on_is_kept_while_a_build_runs() -> None:
    world = World(SPEC)
    await world.reconcile()
    running(world, phase="Succeeded", state={"terminated": {"exitCode": 0, "message": REPORT}})
    await world.reconcile()
    world.writes({**SPEC, "model": {"uri": "build://small"}})
    await world.reconcile()
    assert condition(world, Condition.MODEL_READY)["reason"] == Reason.BUILD_MISSING
    state = world.cluster.objects[Ref("ConfigMap", given.NAMESPACE, names.state_name(given.NAME))]
    assert json.loads(state["data"]["fetched.json"])["report"] == REPORT
    (deployment,) = objects(world, "Deployment")
    assert deployment["spec"]["replicas"] == 1
