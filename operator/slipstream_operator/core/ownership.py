"""Owners of pods: a pod with labels of Slipstream is foreign unless a workload of Slipstream controls it.

The names of owners suffice, because the garbage collector deletes pods whose owner's name and uid don't match.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from slipstream_operator import names
from slipstream_operator.core import wording
from slipstream_runtime import contract

LISTED: Final = 10
"""Names of pods that a message lists."""
_TEMPLATE_HASH_LABEL: Final = "pod-template-hash"
"""Label that a Deployment gives its pods; the name of their ReplicaSet ends with it."""

Metadata = Mapping[str, Any]


def is_of_router(labels: Mapping[str, str]) -> bool:
    """Whether a Service that selects routers selects a pod with these labels."""
    return names.router_selector().items() <= labels.items()


def is_foreign_router(metadata: Metadata) -> bool:
    """Whether a pod with the labels of a router is none of the router's Deployment."""
    labels = metadata.get("labels") or {}
    replica_set = f"{contract.ROUTER_NAME}-{labels.get(_TEMPLATE_HASH_LABEL)}"
    return _controller(metadata) != ("ReplicaSet", replica_set)


def is_foreign(metadata: Metadata) -> bool:
    """Whether a pod with the labels of a service belongs to none of the service's workloads."""
    labels = metadata.get("labels") or {}
    kind, name = _controller(metadata)
    template = labels.get(_TEMPLATE_HASH_LABEL)
    if service := labels.get(names.SERVICE_LABEL):
        workload = names.revision_name(service, labels.get(names.REVISION_LABEL, ""))
        replica_set = ("ReplicaSet", f"{workload}-{template}")
        return (kind, name) not in (replica_set, ("StatefulSet", workload))
    if service := labels.get(names.WORKER_LABEL):
        group = f"{names.revision_name(service, labels.get(names.REVISION_LABEL, ''))}-"
        return kind != "StatefulSet" or not name.startswith(group)
    if service := labels.get(names.PICKER_LABEL):
        return (kind, name) != ("ReplicaSet", f"{names.picker_name(service)}-{template}")
    if service := labels.get(names.FETCH_LABEL):
        return kind != names.JOB or not name.startswith(names.fetch_name(service, ""))
    service = labels.get(names.PREFETCH_LABEL, "")
    return kind != names.JOB or not name.startswith(names.prefetch_name(service, ""))


def message(pods: Sequence[str]) -> str:
    """Return the message about foreign pods."""
    listed = ", ".join(pods[:LISTED])
    more = f" and {wording.counted(len(pods) - LISTED, 'more pod')}" if len(pods) > LISTED else ""
    return (
        f"Workloads of Slipstream did not create these pods, which have their labels: {listed}{more}. They may receive "
        "requests. Delete them, and check who can create pods in this namespace."
    )


def _controller(metadata: Metadata) -> tuple[str, str]:
    """Return kind and name of the controlling owner; two empty texts if there is none."""
    for owner in metadata.get("ownerReferences") or ():
        if owner.get("controller"):
            return str(owner.get("kind", "")), str(owner.get("name", ""))
    return "", ""
