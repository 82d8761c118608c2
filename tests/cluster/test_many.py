"""Two hundred services at once."""

import psutil

from dev.cluster.kube import Kube, is_true
from dev.cluster.lifecycle import Cluster
from tests.support import faults, services

COUNT = 200
BUDGET = 60.0
"""CPU seconds of both operators. The time that it takes depends on what else the machine does, and is the figure of
`make bench-operator`."""


def cpu_seconds(cluster: Cluster, kube: Kube) -> float:
    """CPU seconds that the operators have used."""
    containers = [
        status["containerID"].removeprefix("containerd://")
        for pod in kube.find("Pod", faults.SYSTEM, labelSelector=faults.OPERATOR)
        for status in pod["status"]["containerStatuses"]
    ]
    times = [
        psutil.Process(pid).cpu_times()
        for container in containers
        for pid in cluster.processes(container)
    ]
    return sum(each.user + each.system for each in times)


def test_two_hundred_services_created_at_once_converge(
    cluster: Cluster, kube: Kube, namespace: str
) -> None:
    before = cpu_seconds(cluster, kube)
    for index in range(COUNT):
        kube.apply(services.simulated(namespace, f"chat-{index}"))
    kube.until(
        "InferenceService",
        namespace,
        lambda items: len(items) == COUNT and all(is_true(item, "Ready") for item in items),
        timeout=75,
    )
    used = cpu_seconds(cluster, kube) - before
    # NB: readiness follows the pods; the count in a Deployment's status is its controller's, and comes when it comes.
    kube.until(
        "Deployment",
        namespace,
        lambda items: (
            len(items) == COUNT and all(item["status"].get("readyReplicas") == 1 for item in items)
        ),
        timeout=30,
    )
    assert 0 < used < BUDGET
