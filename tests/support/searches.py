"""Search service as a process, and texts that it finds."""

import base64
from pathlib import Path
from typing import Any

from tests.support.processes import Process

MODULE = "slipstream_runtime.retrieval"
HANDBOOK = """# Harbour

The harbour of Dibramia has seven cranes. Ships wait for the pilot at the outer buoy.

# Fees

The deposit for a berth is forty florins. It is paid back when the ship leaves.

# Animals

Kittens sleep in the harbour office. Nobody may feed the gulls.

# Weather

In a storm, a red flag flies on the lighthouse and small boats stay in port.
"""


class Search(Process):
    """One search service."""

    def __init__(
        self, folder: Path, index: Path, *options: str, embeddings: str, model: str
    ) -> None:
        self.log = folder / "log"
        words = ["serve", str(index), "--embeddings", f"{embeddings}/v1", "--model", model]
        self._start(MODULE, [*words, *options])


def manifests(
    namespace: str, index: Path, *, image: str, embeddings: str, model: str, key: str
) -> list[dict[str, Any]]:
    """Return the search service as pods of a cluster, with the index in a ConfigMap and a key for its clients."""
    labels = {"app": "search"}

    def named(kind: str, version: str = "v1", **fields: Any) -> dict[str, Any]:
        metadata = {"name": "search", "namespace": namespace}
        return {"apiVersion": version, "kind": kind, "metadata": metadata, **fields}

    container = {
        "name": "search",
        "image": image,
        "command": ["python", "-m", MODULE, "serve", f"/index/{index.name}"],
        "args": ["--embeddings", embeddings, "--model", model],
        "env": [
            {
                "name": "SLIPSTREAM_SEARCH_KEY",
                "valueFrom": {"secretKeyRef": {"name": "search", "key": "key"}},
            }
        ],
        "ports": [{"containerPort": 8000}],
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": 8001}, "periodSeconds": 1},
        "volumeMounts": [{"name": "index", "mountPath": "/index", "readOnly": True}],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    pod = {
        "runtimeClassName": "slipstream-local",
        "automountServiceAccountToken": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [{"name": "index", "configMap": {"name": "search"}}],
    }
    content = base64.b64encode(index.read_bytes()).decode()
    return [
        named("ConfigMap", binaryData={index.name: content}),
        named("Secret", stringData={"key": key}),
        named(
            "Deployment",
            "apps/v1",
            spec={
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": pod},
            },
        ),
        named("Service", spec={"selector": labels, "ports": [{"port": 8000}]}),
    ]
