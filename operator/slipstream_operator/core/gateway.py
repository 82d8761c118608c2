"""State of a service at its inference gateway, as the Gateway API reports it."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from slipstream_operator import names
from slipstream_operator.core.observed import Child, Manifest, Observed
from slipstream_operator.core.resolved import Resolved
from slipstream_operator.names import Reason

DEGRADED: Final = (
    "BackendNotFound",
    "InvalidKind",
    "RefNotPermitted",
    "NotAllowedByListeners",
    "NotSupportedByParent",
    "EndpointPickerRefMissing",
    "InvalidExtensionRef",
)
"""Reasons that need a change by a user."""


@dataclasses.dataclass(frozen=True)
class Attachment:
    """State of a service at its gateway: a problem, if there is one, and the URL for clients."""

    problem: tuple[str, str] | None = None
    """Reason and message."""
    url: str | None = None


def attachment(observed: Observed, resolved: Resolved) -> Attachment:
    """Return the state. It is ready if the Gateway is programmed and accepts the route, the pool and its picker."""
    space, name = resolved.routing.gateway or (None, "")
    gateway = f"Gateway {space or resolved.key.namespace}/{name}"
    if not observed.gateway.kinds:
        return _problem(
            Reason.GATEWAY_UNAVAILABLE,
            "spec.routing.mode: Gateway needs HTTPRoute and InferencePool v1, which the cluster does not have. "
            "Install the CRDs of the Gateway API and of its inference extension, or use routing.mode: Router.",
        )
    if observed.gateway.status is None:
        return _problem(
            Reason.GATEWAY_UNAVAILABLE,
            f"{gateway} does not exist. Create it, or change spec.routing.gateway.",
        )
    programmed = _condition(observed.gateway.status.get("conditions", []), "Programmed")
    if programmed is None or programmed["status"] != "True":
        return _problem(Reason.GATEWAY_NOT_READY, f"{gateway} is not programmed{_why(programmed)}.")
    for kind in names.GATEWAY_CHILDREN:
        child = observed.child(kind, resolved.key.name)
        if found := _unaccepted(kind, child, gateway=(space or resolved.key.namespace, name)):
            return Attachment(found)
    picker = observed.child("Deployment", names.picker_name(resolved.key.name))
    if picker is None or not picker.status.get("availableReplicas"):
        return _problem(
            Reason.GATEWAY_NOT_READY,
            f"Deployment {names.picker_name(resolved.key.name)} is not available.",
        )
    return Attachment(url=_url(observed, resolved))


def path(resolved: Resolved) -> str:
    """Return the path prefix of the service at the gateway."""
    return f"/{resolved.key.namespace}/{resolved.key.name}"


def _url(observed: Observed, resolved: Resolved) -> str | None:
    status = observed.gateway.status or {}
    addresses = [address["value"] for address in status.get("addresses", [])]
    return f"http://{addresses[0]}{path(resolved)}/v1" if addresses else None


def _unaccepted(
    kind: str, child: Child | None, *, gateway: tuple[str, str]
) -> tuple[str, str] | None:
    """Return the reason and message if the object is not accepted, or not by its current generation."""
    if child is None:
        return Reason.GATEWAY_NOT_READY, f"{kind} does not exist yet."
    answers = [
        conditions
        for conditions in _answers(child, gateway=gateway)
        if _condition(conditions, "Accepted") is not None
    ]
    if not answers:
        return Reason.GATEWAY_NOT_READY, f"No gateway has claimed {child.ref} yet."
    for conditions in answers:
        for kind_of in ("Accepted", "ResolvedRefs"):
            found = _condition(conditions, kind_of)
            if found and found.get("observedGeneration", child.generation) < child.generation:
                return (
                    Reason.GATEWAY_NOT_READY,
                    f"The gateway has not processed the last change of {child.ref} yet.",
                )
            if found is None or found["status"] != "True":
                degraded = found is not None and found.get("reason") in DEGRADED
                reason = Reason.GATEWAY_DEGRADED if degraded else Reason.GATEWAY_NOT_READY
                return reason, f"{child.ref} is not {kind_of}{_why(found)}."
    return None


def _answers(child: Child, *, gateway: tuple[str, str]) -> Iterator[Sequence[Mapping[str, Any]]]:
    """Yield the conditions of the object at this gateway."""
    for parent in child.status.get("parents", []):
        reference = parent.get("parentRef", {})
        space = reference.get("namespace", child.ref.namespace)
        if (space, reference.get("name")) == gateway:
            yield parent.get("conditions", [])


def _condition(conditions: Sequence[Manifest], kind: str) -> Manifest | None:
    return next((entry for entry in conditions if entry["type"] == kind), None)


def _why(condition: Manifest | None) -> str:
    if condition is None:
        return ""
    return f": {condition.get('reason', '')}: {condition.get('message', '')}"[:500].rstrip(".")


def _problem(reason: str, message: str) -> Attachment:
    return Attachment((reason, message))
