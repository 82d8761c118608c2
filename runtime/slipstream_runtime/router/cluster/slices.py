"""Addresses of engines from EndpointSlices."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from slipstream_runtime import contract
from slipstream_runtime.router.balancing.endpoints import Address

SERVICE_LABEL: Final = "kubernetes.io/service-name"
_PORT: Final = "http"

Manifest = Mapping[str, Any]


def addresses(slices: Iterable[Manifest]) -> dict[str, set[Address]]:
    """Return the engines that are Ready and not terminating, by the name of their headless Service.

    A pod with several addresses counts once, IPv4 first.
    """
    found: dict[str, dict[str, Address]] = {}
    for each in sorted(slices, key=lambda item: str(item.get("addressType"))):
        service = (each["metadata"].get("labels") or {}).get(SERVICE_LABEL)
        if service is None or each.get("addressType") not in ("IPv4", "IPv6"):
            continue
        pods = found.setdefault(service, {})
        port, scheme = _port(each)
        for endpoint in each.get("endpoints") or ():
            if _takes_requests(endpoint) and endpoint.get("addresses"):
                host = endpoint["addresses"][0]
                name = (endpoint.get("targetRef") or {}).get("name") or host
                pods.setdefault(name, Address(name=name, host=host, port=port, scheme=scheme))
    return {service: set(pods.values()) for service, pods in found.items()}


def routers(slices: Iterable[Manifest], *, own: str) -> set[Address]:
    """Return all routers of the namespace but the one with this name, also those that start or stop."""
    found: dict[str, Address] = {}
    for each in sorted(slices, key=lambda item: str(item.get("addressType"))):
        labels = each["metadata"].get("labels") or {}
        if labels.get(SERVICE_LABEL) != contract.ROUTER_NAME:
            continue
        for endpoint in each.get("endpoints") or ():
            if endpoint.get("addresses"):
                host = endpoint["addresses"][0]
                name = (endpoint.get("targetRef") or {}).get("name") or host
                found.setdefault(name, Address(name=name, host=host))
    return {address for name, address in found.items() if name != own}


def _takes_requests(endpoint: Manifest) -> bool:
    """Whether the endpoint is ready; a missing `ready` means true, as in the API."""
    conditions = endpoint.get("conditions") or {}
    return conditions.get("ready") is not False and not conditions.get("terminating")


def _port(each: Manifest) -> tuple[int, str]:
    """Return the port of the API, and its scheme."""
    for port in each.get("ports") or ():
        if port.get("name") in (_PORT, None, "") and port.get("port"):
            return int(port["port"]), port.get("appProtocol") or "http"
    return contract.API_PORT, "http"
