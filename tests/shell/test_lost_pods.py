"""Pods that are lost as a whole: evicted, preempted, refused by their node, or ended with it."""

from typing import Any

import pytest

from slipstream_operator.shell import projections
from tests.support import fakes, pod_statuses


def disrupted(reason: str, message: str) -> dict[str, Any]:
    """Return the status of a pod that runs and is about to end."""
    condition = {
        "type": "DisruptionTarget",
        "status": "True",
        "reason": reason,
        "message": message,
    }
    return {
        "phase": "Running",
        "conditions": [condition],
        **pod_statuses.container(state={"running": {}}),
    }


LOST: dict[str, tuple[dict[str, Any], tuple[str, str] | None]] = {
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
        {
            "phase": "Failed",
            "reason": "New",
            **pod_statuses.container(state=pod_statuses.ended(1, message="so")),
        },
        ("EngineFailed", "the engine ended with exit code 1 (0 restarts): so"),
    ),
    "evicted for a volume": (
        {
            "phase": "Failed",
            "reason": "Evicted",
            "message": 'Usage of EmptyDir volume "spare" exceeds the limit "1Mi". ',
            **pod_statuses.container(state=pod_statuses.ended(137, reason="Error")),
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
            **pod_statuses.container(
                state=pod_statuses.ended(137, reason="ContainerStatusUnknown")
            ),
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
            **pod_statuses.container(**pod_statuses.waiting("ContainerCreating")),
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
            **pod_statuses.container(state={"running": {}}),
        },
        (
            "Preempted",
            (
                "default-scheduler: preempting to accommodate a higher priority pod. A pod with a higher priority "
                "preempted it. Set spec.template.priorityClassName, or add nodes."
            ),
        ),
    ),
    "the kubelet evicts it, and it still runs": (
        disrupted(
            "TerminationByKubelet",
            "The node was low on resource: ephemeral-storage. Threshold quantity: 10Gi, available: 9Gi. ",
        ),
        (
            "Evicted",
            (
                "The node was low on resource: ephemeral-storage. Threshold quantity: 10Gi, available: 9Gi. Request "
                "more ephemeral-storage in spec.resources, so that the pod gets a node with enough of it, or keep "
                "downloads in spec.cache.model."
            ),
        ),
    ),
    "the kubelet evicts it for want of process IDs": (
        disrupted(
            "TerminationByKubelet",
            "The node was low on resource: pids. Threshold quantity: 1638, available: 12. ",
        ),
        (
            "Evicted",
            (
                "The node was low on resource: pids. Threshold quantity: 1638, available: 12. A new pod starts on "
                "another node."
            ),
        ),
    ),
    "its node shuts down, and it still runs": (
        disrupted(
            "TerminationByKubelet", "Pod was terminated in response to imminent node shutdown."
        ),
        (
            "NodeShutdown",
            (
                "Pod was terminated in response to imminent node shutdown. A new pod starts on another node. On nodes "
                "with a short termination notice, such as spot nodes, set spec.times.drain to less than the notice."
            ),
        ),
    ),
    "the kubelet preempts it for a critical pod": (
        disrupted("TerminationByKubelet", "Preempted in order to admit critical pod"),
        (
            "Preempted",
            (
                "Preempted in order to admit critical pod. A pod with a higher priority preempted it. Set "
                "spec.template.priorityClassName, or add nodes."
            ),
        ),
    ),
    "its node is gone, and the garbage collector ends it": (
        {
            **disrupted("DeletionByPodGC", "PodGC: node no longer exists"),
            "phase": "Failed",
        },
        (
            "NodeShutdown",
            (
                "PodGC: node no longer exists. A new pod starts on another node. On nodes with a short termination "
                "notice, such as spot nodes, set spec.times.drain to less than the notice."
            ),
        ),
    ),
    "its device is tainted": (
        disrupted("DeletionByDeviceTaintManager", "Device Taint manager: deleting due to taint"),
        (
            "Evicted",
            (
                "DeletionByDeviceTaintManager: Device Taint manager: deleting due to taint. A new pod starts on "
                "another node."
            ),
        ),
    ),
    "a disruption that did not happen": (
        {
            "conditions": [{"type": "DisruptionTarget", "status": "False", "reason": "Any"}],
            **pod_statuses.container(state={"running": {}}),
        },
        None,
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
}


@pytest.mark.parametrize(("status", "expected"), LOST.values(), ids=LOST)
def test_the_loss_of_a_pod_has_a_reason_and_a_message(
    status: dict[str, Any], expected: tuple[str, str] | None
) -> None:
    assert projections.pod(fakes.pod_body("a", status=status)).trouble == expected
