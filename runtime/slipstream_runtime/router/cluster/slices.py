"""Addresses of engines from EndpointSlices that Kubernetes wrote for the operator's Services."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from slipstream_runtime import contract
from slipstream_runtime.router.balancing.endpoints import Address

SERVICE_LABEL: Final = "kubernetes.io/service-name"
OURS: Final = {
    "app.kubernetes.io/managed-by": "slipstream-operator",
    "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
}
"""Labels of these slices. Kubernetes copies the first from the Service. A ValidatingAdmissionPolicy of
`manifests/base` keeps others from giving it to a slice."""
SELECTOR: Final = ",".join(f"{key}={value}" for key, value in OURS.items())
_PORT: Final = "http"

Manifest = Mapping[str, Any]


def addresses(slices: Iterable[Manifest]) -> dict[str, set[Address]]:
    """Return the engines that are Ready and not terminating, by the name of their headless Service.

    A pod with several addresses counts once, IPv4 first. Slices that others wrote are ignored.
    """
    found: dict[str, dict[str, Address]] = {}
    for each in sorted(slices, key=lambda item: str(item.get("addressType"))):
        service = _service(each["metadata"])
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
        if _service(each["metadata"]) != contract.ROUTER_NAME:
            continue
        for endpoint in each.get("endpoints") or ():
            if endpoint.get("addresses"):
                host = endpoint["addresses"][0]
                name = (endpoint.get("targetRef") or {}).get("name") or host
                found.setdefault(name, Address(name=name, host=host))
    return {address for name, address in found.items() if name != own}


def _service(metadata: Manifest) -> str | None:
    """Return the Service of the slice; None if Kubernetes did not write it for a Service of the operator."""
    labels = metadata.get("labels") or {}
    service: str | None = labels.get(SERVICE_LABEL)
    owners = [(one.get("kind"), one.get("name")) for one in metadata.get("ownerReferences") or ()]
    if OURS.items() <= labels.items() and ("Service", service) in owners:
        return service
    return None


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
