"""A valid InferenceService, and changes to it."""

import copy
from typing import Any

VALID: dict[str, Any] = {
    "apiVersion": "slipstream.dev/v1alpha1",
    "kind": "InferenceService",
    "metadata": {"name": "valid"},
    "spec": {
        "model": {"uri": "file:///models/target"},
        "slo": {"ttft": {"p50": "100ms", "p95": "500ms"}},
        "scaling": {"minReplicas": 1, "maxReplicas": 4},
    },
}


def changed(field: str, value: Any, namespace: str) -> dict[str, Any]:
    """VALID with one field set, or removed if the value is None."""
    manifest = copy.deepcopy(VALID)
    manifest["metadata"]["namespace"] = namespace
    *path, last = field.split(".")
    node = manifest
    for name in path:
        node = node.setdefault(name, {})
    if value is None:
        del node[last]
    else:
        node[last] = value
    return manifest


def as_yaml(manifest: dict[str, Any]) -> str:
    import yaml

    return yaml.safe_dump(manifest)
