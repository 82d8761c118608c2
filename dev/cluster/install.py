"""Slipstream on the local cluster: manifests of the overlay with images of the working tree, or of another checkout."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from dev import paths, processes, waiting
from dev.cluster import images
from dev.cluster.images import Image
from dev.cluster.kube import Kube, Manifest, documents
from dev.cluster.layout import Layout
from dev.cluster.lifecycle import Cluster
from dev.errors import DevError


def load(cluster: Cluster, *, tree: Path = paths.REPOSITORY) -> dict[str, Image]:
    """Build and import the images of a tree."""
    layout = cluster.layout
    if not layout.containerd_socket.exists():
        remedy = f"python -m dev up --name {cluster.name}"
        raise DevError(f"cluster {cluster.name} has no node to load images on", remedy=remedy)
    found = images.application(tree)
    images.load(list(found.values()), layout=layout)
    return found


def install(cluster: Cluster, *, tree: Path = paths.REPOSITORY, seconds: float = 120) -> list[str]:
    """Apply the overlay and wait for its Deployments; returns their names."""
    overlay = tree / paths.OVERLAY
    if not (overlay / "kustomization.yaml").exists():
        raise DevError(f"there is no overlay in {paths.OVERLAY}")
    built = load(cluster, tree=tree)
    rendered = processes.run([cluster.kubectl, "kustomize", overlay])
    manifests = documents(_with_tags(rendered, built=built))
    with Kube.of(cluster.layout) as kube:
        _apply(kube, manifests)
        deployments = [one for one in manifests if one["kind"] == "Deployment"]
        for deployment in deployments:
            _wait(kube, deployment, seconds=seconds, layout=cluster.layout)
    return [f"{one['metadata']['namespace']}/{one['metadata']['name']}" for one in deployments]


def _with_tags(rendered: str, *, built: Mapping[str, Image]) -> str:
    for image in built.values():
        rendered = rendered.replace(f"{image.name.rpartition(':')[0]}:dev", image.name)
    return rendered


def _apply(kube: Kube, manifests: list[Manifest]) -> None:
    definitions = [one for one in manifests if one["kind"] == "CustomResourceDefinition"]
    kube.apply_all(definitions)
    for one in definitions:
        name = one["metadata"]["name"]
        waiting.until(
            partial(kube.holds, one["kind"], None, name, "Established"),
            seconds=30,
            what=f"CustomResourceDefinition {name} becoming Established",
        )
    kube.apply_all(one for one in manifests if one["kind"] != "CustomResourceDefinition")


def _wait(kube: Kube, deployment: Manifest, *, seconds: float, layout: Layout) -> None:
    name, namespace = deployment["metadata"]["name"], deployment["metadata"]["namespace"]

    def settled() -> bool:
        found = kube.get("Deployment", namespace, name)
        if found is None:
            return False
        status, wanted = found["status"], found["spec"].get("replicas", 1)
        seen = status.get("observedGeneration") == found["metadata"]["generation"]
        counts = {
            status.get(key, 0) for key in ("replicas", "updatedReplicas", "availableReplicas")
        }
        return bool(seen and counts == {wanted})

    waiting.until(
        settled,
        seconds=seconds,
        what=f"Deployment {namespace}/{name} becoming Available",
        log=layout.log("kubelet"),
        remedy=f"kubectl -n {namespace} logs deployment/{name}",
        interval=0.2,
    )
