"""Devices that the real kubelet takes from a device plugin, as it takes GPUs, and pods that it refuses for them."""

import contextlib
from collections.abc import Iterator

from dev.cluster.kube import Kube, Object
from dev.cluster.layout import NODE
from dev.cluster.lifecycle import Cluster
from tests.support import device_plugins, losses, services

RESOURCE = "example.com/accelerator"
DEVICES = ("accelerator-0", "accelerator-1")
FAULT = "accelerator-0 has fallen off the bus"
REFUSED = (
    "UnexpectedAdmissionError: Pod was rejected: Allocate failed due to rpc error: "
    f"code = FailedPrecondition desc = {FAULT}, which is unexpected"
)
"""Reason and message of the kubelet for a pod whose device the plugin does not allocate."""


def test_pods_whose_device_is_not_allocated_are_replaced_and_count_nowhere(
    kube: Kube, cluster: Cluster, namespace: str
) -> None:
    with (
        allowed(kube, namespace),
        device_plugins.running(cluster, RESOURCE, devices=DEVICES) as plugin,
    ):
        kube.until("Node", None, has_devices, name=NODE, timeout=30, what=RESOURCE)
        plugin.refusal = FAULT
        kube.apply(
            services.simulated(
                namespace,
                "full",
                fake=False,
                simulator={"coldStart": "1s"},
                resources={
                    "requests": {"cpu": "20m", "memory": "128Mi"},
                    "limits": {RESOURCE: "1"},
                },
            )
        )
        losses.reported(kube, namespace, "RejectedByNode", "", REFUSED)
        service = kube.get("InferenceService", namespace, "full")
        assert service is not None
        assert service["status"].get("readyReplicas", 0) == 0

        plugin.refusal = None
        losses.settled(kube, namespace, 1)
        kube.kubectl("scale", "infer/full", "-n", namespace, "--replicas=2")
        losses.settled(kube, namespace, 2, generation=2)

        pods = [item["status"] for item in kube.find("Pod", namespace)]
        failed = [status for status in pods if status["phase"] == "Failed"]
        assert {f"{status['reason']}: {status['message']}" for status in failed} == {REFUSED}
        assert len(pods) - len(failed) == len(DEVICES)


@contextlib.contextmanager
def allowed(kube: Kube, namespace: str) -> Iterator[None]:
    """A profile of the namespace alone, whose services may ask for the resource."""
    profile = kube.get("ServingProfile", None, "local")
    assert profile is not None
    selector = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    kube.apply(
        {
            "apiVersion": profile["apiVersion"],
            "kind": "ServingProfile",
            "metadata": {"name": namespace},
            "spec": {
                **profile["spec"],
                "namespaceSelector": selector,
                "template": {"allow": [f"resource.{RESOURCE}"]},
            },
        }
    )
    try:
        yield
    finally:
        kube.delete("ServingProfile", None, namespace)


def has_devices(items: list[Object]) -> bool:
    """Whether pods can be scheduled for all devices."""
    return any(item["status"]["allocatable"].get(RESOURCE) == str(len(DEVICES)) for item in items)
