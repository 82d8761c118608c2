"""Services: a public one, and a headless one for each revision."""

from collections.abc import Mapping
from typing import Any, Final

from slipstream_operator import names
from slipstream_operator.core.observed import Key
from slipstream_operator.core.render import common
from slipstream_runtime import contract

PORT: Final = 80


def public(key: Key, uid: str, *, selected: Mapping[str, str]) -> dict[str, Any]:
    """Return Service `<name>`, which selects the router or the engines of the active revision."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": common.metadata(key, uid, name=key.name, component="service"),
        "spec": {
            "type": "ClusterIP",
            "selector": dict(selected),
            "ports": [{"name": "http", "port": PORT, "targetPort": "http", "protocol": "TCP"}],
        },
    }


def headless(key: Key, uid: str, *, revision: str) -> dict[str, Any]:
    """Return the headless Service of one revision's engines."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": common.metadata(
            key,
            uid,
            name=names.revision_name(key.name, revision),
            component="engine",
            revision=revision,
        ),
        "spec": {
            "type": "ClusterIP",
            "clusterIP": "None",
            "selector": common.selector(key.name, revision),
            "ports": [
                {"name": "http", "port": contract.API_PORT, "targetPort": "http", "protocol": "TCP"}
            ],
        },
    }


def url(key: Key) -> str:
    """Return the base URL of the OpenAI-compatible API inside the cluster."""
    return f"http://{key.name}.{key.namespace}.svc/v1"
