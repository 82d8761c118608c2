"""Pods that a node ends or refuses, by the statuses that its kubelet writes: they are replaced and count nowhere."""

import time
from typing import Any

from dev.cluster.kube import Kube
from slipstream_operator.api import units
from tests.support import losses, services

SHUTDOWN = "Pod was terminated in response to imminent node shutdown."
NO_DEVICE = (
    "Allocate failed due to requested number of devices unavailable for nvidia.com/gpu. Requested: 1, Available: 0, "
    "which is unexpected"
)
LOW = "The node was low on resource: {}. Threshold quantity: 1Gi, available: 900Mi. "
KILLED = {
    "name": "engine",
    "image": "image",
    "imageID": "",
    "ready": False,
    "restartCount": 0,
    "state": {"terminated": {"exitCode": 137, "reason": "Error"}},
}


def disrupted(message: str) -> dict[str, Any]:
    """Return the condition that the kubelet adds to a pod that it ends."""
    return {
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "TerminationByKubelet",
        "message": message,
    }


def ended(reason: str, message: str, **fields: Any) -> dict[str, Any]:
    """Return the status of a pod that the kubelet ended or refused."""
    return {"phase": "Failed", "reason": reason, "message": message, **fields}


def dated(status: dict[str, Any], at: float) -> dict[str, Any]:
    """Return the status with its times."""
    text = units.timestamp(at)
    conditions = [{**each, "lastTransitionTime": text} for each in status.get("conditions", ())]
    return {**status, "startTime": text, "conditions": conditions}


ENDS: list[tuple[dict[str, Any], str, str]] = [
    (
        ended("Terminated", SHUTDOWN, conditions=[disrupted(SHUTDOWN)], containerStatuses=[KILLED]),
        "NodeShutdown",
        SHUTDOWN,
    ),
    (
        ended("Evicted", LOW.format("memory"), containerStatuses=[KILLED]),
        "Evicted",
        "Request as much memory",
    ),
    (
        ended("NodeShutdown", "Pod was rejected as the node is shutting down."),
        "NodeShutdown",
        "Pod was rejected as the node is shutting down.",
    ),
    (
        ended("Evicted", LOW.format("ephemeral-storage"), containerStatuses=[KILLED]),
        "Evicted",
        "Request more ephemeral-storage",
    ),
    (ended("UnexpectedAdmissionError", NO_DEVICE), "RejectedByNode", NO_DEVICE),
    (ended("Evicted", LOW.format("pids")), "Evicted", "low on resource: pids"),
    ({"phase": "Running", "conditions": [disrupted(SHUTDOWN)]}, "NodeShutdown", SHUTDOWN),
]
"""Status, and the reason and a part of the message that report it. Two in a row have different reasons, because a
message alone is written once a minute."""


def test_pods_that_a_node_ends_or_refuses_are_reported_and_count_nowhere(
    kube: Kube, namespace: str
) -> None:
    service = services.simulated(
        namespace,
        "full",
        fake=False,
        rollout={"strategy": "Recreate"},
        template={"schedulerName": losses.UNBOUND},
    )
    kube.apply(service)
    name, began = "", time.time() - len(ENDS)
    for number, (status, reason, detail) in enumerate(ENDS):
        name = losses.unbound(kube, namespace)
        kube.write_status("Pod", namespace, name, dated(status, began + number))
        is_lost = status["phase"] == "Failed"
        losses.reported(kube, namespace, reason, name if is_lost else "", detail)
    kube.delete("Pod", namespace, name, gracePeriodSeconds=0)  # as the kubelet ends it

    runs(kube, namespace)
    losses.settled(kube, namespace, 1)
    failed = [pod for pod in kube.find("Pod", namespace) if pod["status"]["phase"] == "Failed"]
    assert len(failed) == len(ENDS) - 1
    service["spec"]["simulator"] = {"maxSequences": 7}
    kube.apply(service)
    runs(kube, namespace)
    losses.settled(kube, namespace, 1, generation=2)


def runs(kube: Kube, namespace: str) -> None:
    """Let the next engine run, as its kubelet would report it."""
    status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    name = losses.unbound(kube, namespace)
    kube.write_status("Pod", namespace, name, dated(status, time.time()))
