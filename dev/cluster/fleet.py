"""Nodes of kwok that exist only in the API, for fleets of GPUs on a laptop."""

from dev import paths, waiting
from dev.cluster.kube import Kube, Manifest, documents, is_true
from dev.cluster.layout import Layout

GPUS = 8


def configure(layout: Layout) -> None:
    """Write kwok's stages: the life of a simulated node or pod."""
    layout.config("kwok.yaml").write_text((paths.MANIFESTS / "kwok-stages.yaml").read_text())


def allow(kube: Kube) -> None:
    kube.apply_all(documents((paths.MANIFESTS / "kwok-access.yaml").read_text()))


def ensure(kube: Kube, *, count: int, layout: Layout) -> None:
    """Create the nodes and wait until all of them are Ready."""
    kube.apply_all(node(index) for index in range(count))

    def ready() -> bool:
        nodes = kube.find("Node", labelSelector="type=kwok")
        return sum(is_true(node, "Ready") for node in nodes) >= count

    what = f"{count} kwok nodes becoming Ready"
    waiting.until(ready, seconds=60 + count * 0.2, what=what, log=layout.log("kwok"))


def node(index: int) -> Manifest:
    """Return a kwok node with eight GPUs; only pods that tolerate its taint run on it."""
    name = f"kwok-{index}"
    resources = {
        "cpu": "192",
        "memory": "2Ti",
        "ephemeral-storage": "8Ti",
        "pods": "250",
        "nvidia.com/gpu": str(GPUS),
    }
    labels = {
        "type": "kwok",
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
    }
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": labels,
            "annotations": {"kwok.x-k8s.io/node": "fake"},
        },
        "spec": {
            "taints": [{"key": "kwok.x-k8s.io/node", "value": "fake", "effect": "NoSchedule"}]
        },
        "status": {"allocatable": resources, "capacity": resources},
    }
