"""Claims on the real node whose folder a test sees."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from dev.cluster.kube import Kube


@contextlib.contextmanager
def shared(kube: Kube, namespace: str, name: str, *, folder: Path) -> Iterator[Path]:
    """A claim that many pods can write to, and its folder on this machine."""
    folder.chmod(0o777)
    size = {"storage": "1Gi"}
    common = {"accessModes": ["ReadWriteMany"], "storageClassName": ""}
    kube.apply(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": namespace},
            "spec": {
                **common,
                "capacity": size,
                "persistentVolumeReclaimPolicy": "Retain",
                "hostPath": {"path": str(folder)},
                "claimRef": {"namespace": namespace, "name": name},
            },
        }
    )
    kube.apply(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {**common, "volumeName": namespace, "resources": {"requests": size}},
        }
    )
    yield folder
    kube.delete("PersistentVolume", None, namespace)
