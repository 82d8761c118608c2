"""The real API server takes the Job that has nodes pull images, and the real scheduler gives each pod its own node."""

from collections.abc import Iterator

import pytest

from dev.cluster.kube import Kube, Object, condition
from tests.support import services

SOON = 30.0
NODES = 4


@pytest.fixture
def gpus(kube: Kube, namespace: str) -> Iterator[None]:
    """A profile for the namespace that allows images, and whose accelerators are the GPUs of the fake nodes."""
    kube.apply(services.gpu_profile(namespace, sources={"allow": ["oci://*"]}))
    yield
    kube.delete("ServingProfile", None, namespace)


def test_each_node_has_the_images_while_the_service_serves(
    kube: Kube, namespace: str, gpus: None
) -> None:
    kube.apply(
        {
            "apiVersion": "slipstream.dev/v1alpha1",
            "kind": "InferenceService",
            "metadata": {"name": "imaged", "namespace": namespace},
            "spec": {
                "model": {"uri": "oci://registry.local/model:1"},
                "scaling": {"maxReplicas": NODES},
                "cache": {"prefetch": True},
                **services.DIRECT,
            },
        }
    )

    def done(items: list[Object]) -> Object | None:
        said = condition(items[0], "ModelReady") if items else {}
        ended = said.get("message", "").endswith(f"Prefetch: done on {NODES} nodes.")
        return items[0] if ended and said["status"] == "True" else None

    kube.until(
        "InferenceService",
        namespace,
        done,
        name="imaged",
        timeout=SOON,
        what="images on all nodes beside a service that serves",
    )
    # NB: where the operator saw the service before its profile, a Job of the local profile came first.
    (job,) = kube.until("Job", namespace, lambda items: len(items) == 1 and items, timeout=SOON)
    assert job["status"]["succeeded"] == NODES
    name = job["metadata"]["name"]
    pods = kube.find("Pod", namespace, labelSelector=f"batch.kubernetes.io/job-name={name}")
    assert len({pod["spec"]["nodeName"] for pod in pods}) == len(pods) == NODES
