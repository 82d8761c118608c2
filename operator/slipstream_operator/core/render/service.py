"""Services: a public one, and a headless one for each revision."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from slipstream_operator import names
from slipstream_operator.core.observed import Key, Manifest
from slipstream_operator.core.render import common
from slipstream_runtime import contract

PORT: Final = 80
SECURE_PORT: Final = 443


def public(
    key: Key, uid: str, *, selected: Mapping[str, str], ports: Sequence[Manifest]
) -> dict[str, Any]:
    """Return Service `<name>`, which selects the router or the engines of the active revision."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": common.metadata(key, uid, name=key.name, component="service"),
        "spec": {
            "type": "ClusterIP",
            "selector": common.of_pods(selected),
            "ports": list(ports),
        },
    }


def router_ports(*, plain: bool, secure: bool) -> list[dict[str, Any]]:
    """Return the ports of a Service that selects routers."""
    return [
        *([_port("http", PORT, target="http")] if plain else []),
        *([_port("https", SECURE_PORT, target="https")] if secure else []),
    ]


def engine_ports(*, secure: bool) -> list[dict[str, Any]]:
    """Return the port of a Service that selects engines."""
    if secure:
        return [_port("https", SECURE_PORT, target="http")]
    return [_port("http", PORT, target="http")]


def _port(name: str, port: int, *, target: str) -> dict[str, Any]:
    return {"name": name, "port": port, "targetPort": target, "protocol": "TCP"}


def headless(key: Key, uid: str, *, revision: str, secure: bool) -> dict[str, Any]:
    """Return the headless Service of one revision's engines. Routers read there whether engines use TLS."""
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
            "selector": common.of_pods(common.selector(key.name, revision)),
            "ports": [
                {
                    **_port("http", contract.API_PORT, target="http"),
                    **({"appProtocol": "https"} if secure else {}),
                }
            ],
        },
    }


def url(key: Key, *, secure: bool) -> str:
    """Return the base URL of the OpenAI-compatible API inside the cluster."""
    return f"{'https' if secure else 'http'}://{key.name}.{key.namespace}.svc/v1"
