"""Clusters and namespaces for tests, made and removed by the project's own `dev`."""

import contextlib
import os
import re
import uuid
from collections.abc import Iterator

from dev.cluster import install
from dev.cluster.kube import Kube
from dev.cluster.lifecycle import Cluster


@contextlib.contextmanager
def running(name: str, *, fake_nodes: int = 0) -> Iterator[Kube]:
    """A cluster with Slipstream installed; SLIPSTREAM_KEEP=1 leaves it up, to look at and to be used again."""
    cluster = Cluster(name=name)
    cluster.up(nodes=fake_nodes)
    try:
        install.install(cluster)
        with Kube(cluster.kubeconfig, cluster.kubectl) as kube:
            yield kube
    finally:
        if not os.environ.get("SLIPSTREAM_KEEP"):
            cluster.down()


@contextlib.contextmanager
def namespace(kube: Kube, hint: str) -> Iterator[str]:
    """A namespace that enforces restricted pod security, for one test."""
    short = re.sub("[^a-z0-9]+", "-", hint.lower().removeprefix("test_"))[:40].strip("-")
    name = f"{short}-{uuid.uuid4().hex[:5]}"
    kube.apply(
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {
                "name": name,
                "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
            },
        }
    )
    try:
        yield name
    finally:
        kube.delete("Namespace", None, name)
