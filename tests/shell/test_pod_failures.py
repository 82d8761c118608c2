"""Failures of pods: their reason and message."""

from typing import Any

import pytest

from slipstream_operator.shell import projections
from tests.support import fakes


def _container(**fields: Any) -> dict[str, Any]:
    return {"containerStatuses": [{"name": "engine", "image": "image/vllm:1", **fields}]}


def _with_sidecar(**fields: Any) -> dict[str, Any]:
    """An engine that runs, and a container that a webhook added."""
    (engine,) = _container(state={"running": {}})["containerStatuses"]
    return {"containerStatuses": [engine, {"name": "proxy", "image": "proxy:1", **fields}]}


def _waiting(reason: str, message: str | None = None) -> dict[str, Any]:
    waiting = {"reason": reason} | ({} if message is None else {"message": message})
    return {"state": {"waiting": waiting}}


def _ended(code: int, **fields: str) -> dict[str, Any]:
    return {"terminated": {"exitCode": code, **fields}}


WITHOUT_WORDS = (
    "Error. Read its log, and check that image/vllm:1 is an image of Slipstream's runtime."
)

TROUBLE: dict[str, tuple[dict[str, Any], tuple[str, str] | None]] = {
    "nothing known": ({}, None),
    "running": (_container(state={"running": {}}), None),
    "being created": (_container(**_waiting("ContainerCreating")), None),
    "unschedulable": (
        {
            "conditions": [
                {"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"}
            ]
        },
        ("Unschedulable", "0/3 nodes are available"),
    ),
    "waiting for a node": (
        {
            "conditions": [
                {
                    "type": "PodScheduled",
                    "status": "False",
                    "lastTransitionTime": "2026-01-01T00:00:00Z",
                    "message": "0/3 nodes are available",
                }
            ]
        },
        (
            "Unschedulable",
            "Unschedulable since 2026-01-01T00:00:00Z: 0/3 nodes are available",
        ),
    ),
    "scheduled": ({"conditions": [{"type": "PodScheduled", "status": "True"}]}, None),
    "an image of another project": (
        _container(
            restartCount=2,
            lastState=_ended(1, reason="Error"),
        ),
        (
            "EngineFailed",
            f"the engine ended with exit code 1 (2 restarts): {WITHOUT_WORDS}",
        ),
    ),
    "no image": (
        _container(**_waiting("ErrImagePull", "not found")),
        ("ImagePullFailed", "image/vllm:1: not found"),
    ),
    "no image, without words": (
        _container(**_waiting("ImagePullBackOff")),
        ("ImagePullFailed", "image/vllm:1: ImagePullBackOff"),
    ),
    "a missing secret": (
        _container(**_waiting("CreateContainerConfigError", 'secret "hf" not found')),
        ("ContainerConfigError", 'secret "hf" not found'),
    ),
    "it ended with its own words": (
        _container(state=_ended(1, message="no such model\n", reason="Error"), restartCount=2),
        ("EngineFailed", "the engine ended with exit code 1 (2 restarts): no such model"),
    ),
    "it ended without words": (
        _container(state=_ended(137, reason="Error")),
        ("EngineFailed", f"the engine ended with exit code 137 (0 restarts): {WITHOUT_WORDS}"),
    ),
    "its memory limit was reached": (
        _container(state=_ended(137, reason="OOMKilled")),
        (
            "OutOfMemory",
            (
                "the engine was killed because its memory limit or the node's memory was exhausted (0 restarts). "
                "Raise limits.memory and requests.memory in spec.resources, or lower batching.maxSequences."
            ),
        ),
    ),
    "its memory limit was reached before": (
        _container(
            **_waiting("CrashLoopBackOff", "back-off 5m"),
            lastState=_ended(137, reason="OOMKilled"),
            restartCount=3,
        ),
        (
            "OutOfMemory",
            (
                "the engine was killed because its memory limit or the node's memory was exhausted (3 restarts). "
                "Raise limits.memory and requests.memory in spec.resources, or lower batching.maxSequences."
            ),
        ),
    ),
    "an init container failed, and left what may be a secret": (
        {
            "initContainerStatuses": [
                {"name": "fetch", "image": "tools:1", "state": _ended(3, message="no route")}
            ],
            **_container(**_waiting("PodInitializing")),
        },
        (
            "EngineFailed",
            "init container fetch ended with exit code 3 (0 restarts): Error. Read its log.",
        ),
    ),
    "an init container has no image": (
        {
            "initContainerStatuses": [
                {"name": "fetch", "image": "tools:1", **_waiting("ImagePullBackOff", "denied")}
            ]
        },
        ("ImagePullFailed", "tools:1: denied"),
    ),
    "an init container had no memory": (
        {
            "initContainerStatuses": [
                {"name": "fetch", "image": "tools:1", "state": _ended(137, reason="OOMKilled")}
            ]
        },
        (
            "OutOfMemory",
            (
                "init container fetch was killed because its memory limit or the node's memory was exhausted (0 "
                "restarts). Raise limits.memory in its resources in spec.template.initContainers."
            ),
        ),
    ),
    "an init container succeeded the second time": (
        {
            "initContainerStatuses": [
                {
                    "name": "fetch",
                    "image": "tools:1",
                    "restartCount": 1,
                    "state": _ended(0),
                    "lastState": _ended(1, message="no route"),
                }
            ],
            **_container(state={"running": {}}),
        },
        None,
    ),
    "a sidecar runs again": (
        _with_sidecar(
            state={"running": {}}, lastState=_ended(137, reason="OOMKilled"), restartCount=1
        ),
        None,
    ),
    "a sidecar has ended": (
        _with_sidecar(state=_ended(2, message="no certificate")),
        (
            "EngineFailed",
            "container proxy ended with exit code 2 (0 restarts): Error. Read its log.",
        ),
    ),
    "a sidecar ends again and again for want of memory": (
        _with_sidecar(
            **_waiting("CrashLoopBackOff", "back-off 5m"),
            lastState=_ended(137, reason="OOMKilled"),
            restartCount=4,
        ),
        (
            "OutOfMemory",
            (
                "container proxy was killed because its memory limit or the node's memory was exhausted (4 "
                "restarts). Raise its memory limit in the configuration that injects it."
            ),
        ),
    ),
    "the node can't align its devices": (
        {
            "phase": "Failed",
            "reason": "TopologyAffinityError",
            "message": "Resources cannot be allocated with Topology locality",
        },
        (
            "RejectedByNode",
            (
                "TopologyAffinityError: Resources cannot be allocated with Topology locality. A new pod starts. "
                "If it happens again, check the node for a device plugin that restarts, a failed GPU, or pods "
                "that were not scheduled by the scheduler."
            ),
        ),
    ),
    "it failed for a reason that is not known": (
        {"phase": "Failed", "reason": "New", **_container(state=_ended(1, message="so"))},
        ("EngineFailed", "the engine ended with exit code 1 (0 restarts): so"),
    ),
    "evicted for a volume": (
        {
            "phase": "Failed",
            "reason": "Evicted",
            "message": 'Usage of EmptyDir volume "spare" exceeds the limit "1Mi". ',
            **_container(state=_ended(137, reason="Error")),
        },
        (
            "Evicted",
            (
                'Usage of EmptyDir volume "spare" exceeds the limit "1Mi". Raise sizeLimit of the volume in '
                "spec.template.volumes, or leave it out."
            ),
        ),
    ),
    "evicted for the node's disk": (
        {
            "phase": "Failed",
            "reason": "Evicted",
            "message": "The node was low on resource: ephemeral-storage. Threshold quantity: 10Gi, available: 9Gi. "
            "Container engine was using 141Gi, request is 26Gi, has larger consumption of ephemeral-storage. ",
        },
        (
            "Evicted",
            (
                "The node was low on resource: ephemeral-storage. Threshold quantity: 10Gi, available: 9Gi. "
                "Container "
                "engine was using 141Gi, request is 26Gi, has larger consumption of ephemeral-storage. "
                "Request more "
                "ephemeral-storage in spec.resources, so that the pod gets a node with enough of it, or "
                "keep downloads in "
                "spec.cache.model."
            ),
        ),
    ),
    "evicted for the node's memory": (
        {
            "phase": "Failed",
            "reason": "Evicted",
            "message": "The node was low on resource: memory. Threshold quantity: 100Mi, available: 80Mi. ",
        },
        (
            "Evicted",
            (
                "The node was low on resource: memory. Threshold quantity: 100Mi, available: 80Mi. Request "
                "as much memory "
                "in spec.resources as the engine uses, so that it is not evicted first."
            ),
        ),
    ),
    "the node shuts down": (
        {
            "phase": "Failed",
            "reason": "Terminated",
            "message": "Pod was terminated in response to imminent node shutdown.",
        },
        (
            "NodeShutdown",
            (
                "Pod was terminated in response to imminent node shutdown. A new pod starts on another node. On "
                "nodes with a short termination notice, such as spot nodes, set spec.times.drain to less than the "
                "notice."
            ),
        ),
    ),
    "the node's devices are gone": (
        {
            "phase": "Failed",
            "reason": "UnexpectedAdmissionError",
            "message": "Allocate failed due to requested number of devices unavailable for nvidia.com/gpu. "
            "Requested: "
            "1, Available: 0, which is unexpected",
        },
        (
            "RejectedByNode",
            (
                "UnexpectedAdmissionError: Allocate failed due to requested number of devices unavailable for "
                "nvidia.com/gpu. Requested: 1, Available: 0, which is unexpected. A new pod starts. If it happens "
                "again, check the node for a device plugin that restarts, a failed GPU, or pods that were not "
                "scheduled by the scheduler."
            ),
        ),
    ),
    "the node refuses a pod that ran before its reboot": (
        {
            "phase": "Failed",
            "reason": "UnexpectedAdmissionError",
            "message": "Pod was rejected: no healthy devices",
            **_container(state=_ended(137, reason="ContainerStatusUnknown")),
        },
        (
            "RejectedByNode",
            (
                "UnexpectedAdmissionError: Pod was rejected: no healthy devices. A new pod starts. If it happens "
                "again, check the node for a device plugin that restarts, a failed GPU, or pods that were not "
                "scheduled by the scheduler."
            ),
        ),
    ),
    "the node refuses a pod before its containers": (
        {
            "phase": "Failed",
            "reason": "OutOfmemory",
            "message": "Pod was rejected: Node didn't have enough resource: memory",
            **_container(**_waiting("ContainerCreating")),
        },
        (
            "RejectedByNode",
            (
                "OutOfmemory: Pod was rejected: Node didn't have enough resource: memory. A new pod starts. If it "
                "happens again, check the node for a device plugin that restarts, a failed GPU, or pods that were not "
                "scheduled by the scheduler."
            ),
        ),
    ),
    "the node has no room": (
        {
            "phase": "Failed",
            "reason": "OutOfcpu",
            "message": "Node didn't have enough resource: cpu, requested: 3000, used: 2000, capacity: 4000",
        },
        (
            "RejectedByNode",
            (
                "OutOfcpu: Node didn't have enough resource: cpu, requested: 3000, used: 2000, capacity: 4000. A "
                "new pod starts. If it happens again, check the node for a device plugin that restarts, a failed "
                "GPU, or pods that were not scheduled by the scheduler."
            ),
        ),
    ),
    "preempted": (
        {
            "phase": "Running",
            "conditions": [
                {
                    "type": "DisruptionTarget",
                    "status": "True",
                    "reason": "PreemptionByScheduler",
                    "message": "default-scheduler: preempting to accommodate a higher priority pod",
                }
            ],
            **_container(state={"running": {}}),
        },
        (
            "Preempted",
            (
                "default-scheduler: preempting to accommodate a higher priority pod. A pod with a higher priority "
                "preempted it. Set spec.template.priorityClassName, or add nodes."
            ),
        ),
    ),
    "its node is drained": (
        {
            "conditions": [
                {
                    "type": "DisruptionTarget",
                    "status": "True",
                    "reason": "EvictionByEvictionAPI",
                    "message": "Eviction API: evicting",
                }
            ]
        },
        ("NodeDrained", "Eviction API: evicting. A new pod starts on another node."),
    ),
    "it waits to be started again": (
        _container(
            **_waiting("CrashLoopBackOff", "back-off 5m"),
            lastState=_ended(1, message="no such model"),
            restartCount=7,
        ),
        ("EngineFailed", "the engine ended with exit code 1 (7 restarts): no such model"),
    ),
    "it ended well and waits": (
        _container(**_waiting("CrashLoopBackOff", "back-off"), lastState=_ended(0)),
        ("EngineFailed", "CrashLoopBackOff: back-off"),
    ),
    "it was started again": (
        _container(state={"running": {}}, lastState=_ended(1, message="once"), restartCount=1),
        ("EngineFailed", "the engine ended with exit code 1 (1 restart): once"),
    ),
    "it ended well": (_container(state=_ended(0)), None),
}


@pytest.mark.parametrize(("status", "expected"), TROUBLE.values(), ids=TROUBLE)
def test_the_failure_of_a_pod_has_a_reason_and_a_message(
    status: dict[str, Any], expected: tuple[str, str] | None
) -> None:
    assert projections.pod(fakes.pod_body("a", status=status)).trouble == expected


def test_a_pod_that_ended_has_the_time_of_its_end() -> None:
    ended = _container(state=_ended(137, finishedAt="2026-01-01T00:00:05Z"))
    found = projections.pod(fakes.pod_body("a", status={"phase": "Failed", **ended}))
    assert found.ended
    assert found.gone_at == "2026-01-01T00:00:05Z"
    never_ran = {"phase": "Failed", "startTime": "2026-01-01T00:00:01Z"}
    assert projections.pod(fakes.pod_body("a", status=never_ran)).gone_at == never_ran["startTime"]
    assert projections.pod(fakes.pod_body("a")).gone_at is None


def test_a_long_message_keeps_the_exit_code_and_its_end() -> None:
    status = _container(state=_ended(1, message="x" * 5000 + "the cause"))
    trouble = projections.pod(fakes.pod_body("a", status=status)).trouble
    assert trouble is not None
    assert len(trouble[1]) == 1000
    assert trouble[1].startswith("the engine ended with exit code 1 (0 restarts): xxx")
    assert trouble[1].endswith("the cause")
