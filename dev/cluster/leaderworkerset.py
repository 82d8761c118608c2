"""LeaderWorkerSet's controller on a local cluster that asks for it, with the manifests of its own Go module."""

import json
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import yaml

from dev import paths, processes, waiting
from dev.cluster import binaries, images
from dev.cluster.kube import Kube, Manifest, documents
from dev.cluster.lifecycle import Cluster
from dev.errors import DevError

_MODULE: Final = "sigs.k8s.io/lws"
_PROGRAM: Final = "lws"
_DEFINITION: Final = "config/crd/bases/leaderworkerset.x-k8s.io_leaderworkersets.yaml"
_NAMESPACE: Final = "lws-system"
_DEPLOYMENT: Final = "lws-controller-manager"


def definition() -> dict[str, Any]:
    """The kind alone, without its controller."""
    found: dict[str, Any] = yaml.safe_load((_sources() / _DEFINITION).read_text())
    return found


def install(cluster: Cluster, *, report: binaries.Report, seconds: float = 90) -> None:
    """Build the controller unless the cache has it, apply its manifests, and wait until it is available."""
    layout = cluster.layout
    image = images.program(binaries.extra(_PROGRAM, report=report))
    images.load([image], layout=layout)
    rendered = processes.run([cluster.kubectl, "kustomize", _sources() / "config/default"])
    with Kube.of(layout) as kube:
        kube.apply_all(_adapted(documents(rendered), image=image.name))
        waiting.until(
            partial(kube.holds, "Deployment", _NAMESPACE, _DEPLOYMENT, "Available"),
            seconds=seconds,
            what="LeaderWorkerSet's controller becoming Available",
            log=layout.log("kubelet"),
            remedy=f"kubectl -n {_NAMESPACE} logs deployment/{_DEPLOYMENT}",
        )


def _adapted(manifests: list[Manifest], *, image: str) -> Iterator[Manifest]:
    """The manifests for one small node: one replica of the image built here, and soon found ready."""
    for manifest in manifests:
        if manifest["kind"] == "Deployment":
            spec = manifest["spec"]
            spec["replicas"] = 1
            (container,) = spec["template"]["spec"]["containers"]
            container |= {"image": image, "imagePullPolicy": "Never"}
            container["command"] = [f"/bin/{_PROGRAM}"]
            container["resources"] = {"requests": {"cpu": "20m", "memory": "64Mi"}}
            container["readinessProbe"] |= {"initialDelaySeconds": 1, "periodSeconds": 1}
        yield manifest


def _sources() -> Path:
    """The folder of the pinned module, downloaded if need be."""
    command = ["go", "mod", "download", "-json", _MODULE]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=paths.SOURCES / _PROGRAM
    )
    if done.returncode:
        remedy = "run `python -m dev doctor`"
        raise DevError(f"the module {_MODULE} could not be downloaded", remedy=remedy)
    return Path(json.loads(done.stdout)["Dir"])
