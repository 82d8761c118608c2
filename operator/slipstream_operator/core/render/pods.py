"""Common parts of pods: security context, scrape annotations and termination."""

from typing import Any, Final

from slipstream_runtime import contract

USER: Final = 65532
SCRAPED: Final = {
    "prometheus.io/scrape": "true",
    "prometheus.io/port": str(contract.MANAGEMENT_PORT),
    "prometheus.io/path": contract.METRICS_PATH,
}
"""Annotations of engine and router pods."""
ROUTER_GRACE_SECONDS: Final = (
    contract.LINGER_SECONDS + contract.LONGEST_DRAIN_SECONDS + contract.EXIT_SECONDS
)
"""Seconds from the deletion of a router pod to SIGKILL. The router exits after the longest drain of its services. The
value is constant so that a change of a drain restarts no router."""


def confined(*, group: int | None = USER, assigned: bool = False) -> dict[str, Any]:
    """Return the pod's security context for the restricted standard. Its volumes belong to `group`.

    OnRootMismatch avoids a walk over all files of a kept cache at each mount. If the cluster assigns users, the context
    names no user and no group.
    """
    if assigned:
        return {
            "runAsNonRoot": True,
            **({} if group is None else {"fsGroupChangePolicy": "OnRootMismatch"}),
            "seccompProfile": {"type": "RuntimeDefault"},
        }
    return {
        "runAsNonRoot": True,
        "runAsUser": USER,
        "runAsGroup": USER,
        **({} if group is None else {"fsGroup": group, "fsGroupChangePolicy": "OnRootMismatch"}),
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_confined() -> dict[str, Any]:
    """Return the container's security context for the restricted standard."""
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
