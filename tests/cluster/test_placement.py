"""The real scheduler packs replicas on GPU nodes, so that whole nodes stay free for replicas of many GPUs."""

from collections.abc import Iterator
from typing import Any

import pytest

from dev.cluster.kube import Kube, Object
from tests.support import services

SOON = 30.0


@pytest.fixture
def gpus(kube: Kube, namespace: str) -> Iterator[None]:
    """A profile for the namespace whose accelerators are the GPUs of the fake nodes."""
    kube.until("Pod", None, _no_gpu_is_taken, timeout=SOON, what="the GPUs of former tests free")
    kube.apply(services.gpu_profile(namespace))
    yield
    kube.delete("ServingProfile", None, namespace)


def _no_gpu_is_taken(items: list[Object]) -> bool:
    return not any(
        "nvidia.com/gpu" in container.get("resources", {}).get("requests", {})
        for item in items
        if item["spec"].get("nodeName")
        for container in item["spec"]["containers"]
    )


def service(namespace: str, name: str, *, gpus: int, replicas: int) -> dict[str, Any]:
    """A service on GPUs."""
    manifest = services.simulated(namespace, name, fake=False)
    manifest["spec"] = {
        "model": {"uri": "hf://org/model"},
        "accelerator": {"count": gpus},
        "replicas": replicas,
        **services.DIRECT,
    }
    return manifest


def nodes(kube: Kube, namespace: str, name: str, *, count: int) -> list[str]:
    """Nodes of the service's pods, once all of them have one."""

    def placed(items: list[Object]) -> list[str] | None:
        found = [item["spec"].get("nodeName") for item in items]
        return found if len(found) == count and all(found) else None

    labels = f"slipstream.dev/service={name}"
    found: list[str] = kube.until(
        "Pod", namespace, placed, labels=labels, timeout=SOON, what=f"{count} pods on nodes"
    )
    return found


def test_replicas_of_one_gpu_leave_whole_nodes_to_replicas_of_eight(
    kube: Kube, namespace: str, gpus: None
) -> None:
    kube.apply(service(namespace, "small", gpus=1, replicas=4))
    small = set(nodes(kube, namespace, "small", count=4))
    assert len(small) == 1
    kube.apply(service(namespace, "large", gpus=8, replicas=3))
    large = nodes(kube, namespace, "large", count=3)
    assert len({*small, *large}) == 4
