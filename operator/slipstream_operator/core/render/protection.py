"""PodDisruptionBudgets and NetworkPolicies of the engine pods."""

import re
from collections.abc import Sequence
from typing import Any

from slipstream_operator import names
from slipstream_operator.core.observed import Key, Manifest
from slipstream_operator.core.prometheus import Scraping
from slipstream_operator.core.render import common
from slipstream_runtime import contract


def disruption_budget(key: Key, uid: str) -> dict[str, Any]:
    """Return one budget over all revisions, because a pod with two budgets can't be evicted."""
    metadata = common.metadata(key, uid, name=key.name, component="service")
    return _budget(metadata, selected=common.selector(key.name))


def workers_budget(key: Key, uid: str) -> dict[str, Any]:
    """Return the budget of workers: one at a time, because the loss of a worker restarts its whole group."""
    metadata = common.metadata(
        key, uid, name=names.workers_name(key.name), component=names.WORKER_COMPONENT
    )
    return _budget(metadata, selected={names.WORKER_LABEL: key.name})


def _budget(metadata: dict[str, Any], *, selected: dict[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata,
        "spec": {
            "maxUnavailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": selected},
        },
    }


def network_policy(
    key: Key,
    uid: str,
    *,
    prometheus: str | None,
    scraping: Scraping,
    egress: Sequence[Manifest],
    routed: bool = False,
    gateways: Manifest | None = None,
    spans_nodes: bool = False,
) -> dict[str, Any]:
    """Return the NetworkPolicy: the management port is open to Prometheus, routers and pickers.

    The API port is open to the router alone if the service is `routed`. Otherwise it is open to the namespaces of
    `gateways`, and by default to everybody. Workers of a replica that spans nodes reach all ports, because
    torch.distributed uses random ports.
    """
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": common.metadata(key, uid, name=key.name, component="service"),
        "spec": {
            "podSelector": {"matchLabels": common.selector(key.name)},
            "policyTypes": ["Ingress", "Egress"],
            "egress": [*egress, *([_to_workers(key)] if spans_nodes else [])],
            "ingress": [
                {
                    **_clients(routed=routed, gateways=gateways),
                    "ports": [{"protocol": "TCP", "port": contract.API_PORT}],
                },
                {
                    "from": [
                        {"namespaceSelector": scraper_namespaces(prometheus, scraping)},
                        _routers(),
                        {"podSelector": {"matchLabels": {names.PICKER_LABEL: key.name}}},
                    ],
                    "ports": [{"protocol": "TCP", "port": contract.MANAGEMENT_PORT}],
                },
                *([_from_workers(key)] if spans_nodes else []),
            ],
        },
    }


def _clients(*, routed: bool, gateways: Manifest | None) -> dict[str, Any]:
    """Return the peers that reach the API port; empty for everybody."""
    if routed:
        return {"from": [_routers()]}
    return {} if gateways is None else {"from": [{"namespaceSelector": gateways}]}


def _routers() -> dict[str, Any]:
    return {"podSelector": {"matchLabels": names.router_selector()}}


def fetch_policy(key: Key, uid: str, *, egress: Sequence[Manifest]) -> dict[str, Any]:
    """Return the NetworkPolicy of the pods that download or inspect the model."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": common.metadata(
            key, uid, name=names.fetch_policy_name(key.name), component=names.FETCH_COMPONENT
        ),
        "spec": {
            "podSelector": {"matchLabels": {names.FETCH_LABEL: key.name}},
            "policyTypes": ["Egress"],
            "egress": list(egress),
        },
    }


def workers_policy(key: Key, uid: str, *, egress: Sequence[Manifest]) -> dict[str, Any]:
    """Return the NetworkPolicy of workers, which only leaders and other workers of the service reach."""
    leaders = {"podSelector": {"matchLabels": common.selector(key.name)}}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": common.metadata(
            key, uid, name=names.workers_name(key.name), component=names.WORKER_COMPONENT
        ),
        "spec": {
            "podSelector": {"matchLabels": {names.WORKER_LABEL: key.name}},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": [leaders]}, _from_workers(key)],
            "egress": [*egress, {"to": [leaders]}, _to_workers(key)],
        },
    }


def _from_workers(key: Key) -> dict[str, Any]:
    return {"from": [{"podSelector": {"matchLabels": {names.WORKER_LABEL: key.name}}}]}


def _to_workers(key: Key) -> dict[str, Any]:
    return {"to": [{"podSelector": {"matchLabels": {names.WORKER_LABEL: key.name}}}]}


def scraper_namespaces(url: str | None, scraping: Scraping) -> Manifest:
    """Return the selector of the namespaces that scrape: the profile's, else that of `http://name.namespace.svc...`.

    For another URL it selects all namespaces.
    """
    if scraping.namespaces is not None:
        return scraping.namespaces
    match = re.match(r"https?://[^./]+\.([a-z0-9-]+)\.svc[.:/]?", url or "")
    return {"matchLabels": {"kubernetes.io/metadata.name": match.group(1)}} if match else {}
