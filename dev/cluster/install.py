"""Slipstream itself on the local cluster: the overlay's manifests with the tree's own images."""

from collections.abc import Mapping
from functools import partial

from dev import paths, processes, waiting
from dev.cluster import api, images
from dev.cluster.api import Api, Manifest
from dev.cluster.images import Image
from dev.cluster.layout import Layout
from dev.cluster.lifecycle import Cluster
from dev.errors import DevError


def load(cluster: Cluster) -> dict[str, Image]:
    """Build and import the images of the working tree."""
    layout = cluster.layout
    if not layout.containerd_socket.exists():
        remedy = f"python -m dev up --name {cluster.name}"
        raise DevError(f"cluster {cluster.name} has no node to load images on", remedy=remedy)
    found = images.application()
    images.load(list(found.values()), layout=layout)
    return found


def install(cluster: Cluster, *, seconds: float = 120) -> list[str]:
    """Apply the overlay and wait for its Deployments; returns their names."""
    if not (paths.OVERLAY / "kustomization.yaml").exists():
        raise DevError(f"there is no overlay in {paths.OVERLAY.relative_to(paths.REPOSITORY)}")
    built = load(cluster)
    rendered = processes.run([cluster.kubectl, "kustomize", paths.OVERLAY])
    manifests = api.documents(_with_tags(rendered, built=built))
    with Api(cluster.layout) as client:
        _apply(client, manifests)
        deployments = [one for one in manifests if one["kind"] == "Deployment"]
        for deployment in deployments:
            _wait(client, deployment, seconds=seconds, layout=cluster.layout)
    return [f"{one['metadata']['namespace']}/{one['metadata']['name']}" for one in deployments]


def _with_tags(rendered: str, *, built: Mapping[str, Image]) -> str:
    for image in built.values():
        rendered = rendered.replace(f"{image.name.rpartition(':')[0]}:dev", image.name)
    return rendered


def _apply(client: Api, manifests: list[Manifest]) -> None:
    definitions = [one for one in manifests if one["kind"] == "CustomResourceDefinition"]
    client.apply(definitions)
    for one in definitions:
        name = one["metadata"]["name"]
        path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}"
        waiting.until(
            partial(client.condition, path, "Established"),
            seconds=30,
            what=f"CustomResourceDefinition {name} becoming Established",
        )
    client.apply(one for one in manifests if one["kind"] != "CustomResourceDefinition")


def _wait(client: Api, deployment: Manifest, *, seconds: float, layout: Layout) -> None:
    name, namespace = deployment["metadata"]["name"], deployment["metadata"]["namespace"]
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}"

    def settled() -> bool:
        found = client.get(path) or {"metadata": {"generation": 1}, "spec": {}, "status": {}}
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
