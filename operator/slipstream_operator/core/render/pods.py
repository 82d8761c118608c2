"""Common parts of our pods: security context, scrape annotations and termination."""

from typing import Any, Final

from slipstream_runtime import contract

USER: Final = 65532
SCRAPED: Final = {
    "prometheus.io/scrape": "true",
    "prometheus.io/port": str(contract.MANAGEMENT_PORT),
    "prometheus.io/path": contract.METRICS_PATH,
}
"""Annotations of a pod of the data plane."""
ROUTER_GRACE_SECONDS: Final = (
    contract.LINGER_SECONDS + contract.LONGEST_DRAIN_SECONDS + contract.EXIT_SECONDS
)
"""Seconds from the deletion of a router's pod to SIGKILL. The router ends by itself after the longest drain of its
services, which may change: a constant here restarts no router for it."""


def confined(*, group: int | None = USER) -> dict[str, Any]:
    """A pod's security context, as the restricted standard wants it; its volumes belong to `group`.

    A volume whose root belongs to the group already isn't walked at each mount: a kept cache has many files.
    """
    return {
        "runAsNonRoot": True,
        "runAsUser": USER,
        "runAsGroup": USER,
        **({} if group is None else {"fsGroup": group, "fsGroupChangePolicy": "OnRootMismatch"}),
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_confined() -> dict[str, Any]:
    """A container's security context, as the restricted standard wants it."""
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
