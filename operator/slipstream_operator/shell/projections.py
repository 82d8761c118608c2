"""Projections of raw objects of the API server onto the frozen values of `core.observed`."""

import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

from slipstream_operator import names
from slipstream_operator.api import units
from slipstream_operator.core import ownership, pod_failures
from slipstream_operator.core.observed import (
    Builder,
    Child,
    Fetcher,
    Key,
    Manifest,
    ObservedPod,
    Parent,
    Profile,
    Ref,
    StageState,
)
from slipstream_operator.core.rollout import commands
from slipstream_operator.names import Reason
from slipstream_operator.shell.packing import Packer

Body = Mapping[str, Any]

_NOTHING: Final[Manifest] = {}
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}\b")


def parent(body: Body, *, packer: Packer, kind: str = names.INFERENCE_SERVICE) -> Parent:
    """Return the projection of an InferenceService, InferenceRoute or ModelBuild."""
    metadata = body["metadata"]
    return Parent(
        key=Key(_shared(metadata["namespace"]), metadata["name"], kind),
        uid=metadata["uid"],
        generation=metadata.get("generation", 0),
        created=metadata["creationTimestamp"],
        deleting="deletionTimestamp" in metadata,
        packed_spec=packer.pack(body.get("spec") or {}, kind=f"spec of {kind}"),
        packed_status=packer.pack(body.get("status") or {}, kind=f"status of {kind}"),
        commands=commands.of(metadata.get("annotations") or {}),
    )


def _shared(text: str) -> str:
    """Return one string object for all equal texts, which saves memory with thousands of services."""
    return sys.intern(text)


def profile(body: Body) -> Profile:
    """Return the projection of a ServingProfile."""
    metadata = body["metadata"]
    return Profile(metadata["name"], metadata["creationTimestamp"], dict(body.get("spec") or {}))


def child(kind: str, body: Body, *, packer: Packer) -> Child:
    """Return the projection of a child, without managedFields.

    It has a status only if requests or models pass through the object.
    """
    metadata = {
        key: value
        for key, value in body["metadata"].items()
        if key not in ("managedFields", "resourceVersion", "generation")
    }
    owners, labels = metadata.get("ownerReferences", []), metadata.get("labels", {})
    has_traffic = _has_traffic(kind, metadata)
    return Child(
        ref=Ref(kind, _shared(metadata["namespace"]), metadata["name"]),
        uid=metadata["uid"],
        service=_shared(labels.get(names.SERVICE_LABEL, "")),
        controller=next(
            (_shared(owner["uid"]) for owner in owners if owner.get("controller")), None
        ),
        deleting="deletionTimestamp" in metadata,
        packed=packer.pack(
            {
                "kind": kind,
                **{
                    key: value
                    for key, value in body.items()
                    if key not in ("metadata", "status", "kind")
                },
                "metadata": metadata,
            },
            kind=f"{kind} of {labels.get(names.COMPONENT_LABEL)}",
        ),
        trouble=_failure(body.get("status") or {}) if kind == "Deployment" else None,
        status=dict(body.get("status") or {}) if has_traffic else _NOTHING,
        generation=body["metadata"].get("generation", 0) if has_traffic else 0,
    )


def _has_traffic(kind: str, metadata: Body) -> bool:
    """Whether requests or models pass through the object's pods or rules on their way to an engine."""
    component = metadata.get("labels", {}).get(names.COMPONENT_LABEL)
    return kind in (*names.GATEWAY_CHILDREN, names.JOB) or (
        kind == "Deployment" and component in (names.ROUTER_COMPONENT, names.PICKER_COMPONENT)
    )


def pod(body: Body) -> ObservedPod:
    """Return the projection of an engine pod or one of its workers."""
    metadata, status = body["metadata"], body.get("status") or {}
    labels = metadata.get("labels", {})
    ready = next(
        (entry for entry in status.get("conditions", []) if entry["type"] == "Ready"),
        {"status": "False"},
    )
    is_ready = ready["status"] == "True"
    return ObservedPod(
        namespace=_shared(metadata["namespace"]),
        name=metadata["name"],
        service=_shared(
            labels.get(names.SERVICE_LABEL)
            or labels.get(names.WORKER_LABEL)
            or labels.get(names.PICKER_LABEL, "")
        ),
        revision=_shared(labels.get(names.REVISION_LABEL, "")),
        phase=_shared(status.get("phase", "Pending")),
        ready=is_ready,
        deleting="deletionTimestamp" in metadata,
        created=metadata["creationTimestamp"],
        ready_since=_time(ready.get("lastTransitionTime")) if is_ready else None,
        trouble=pod_failures.of(status),
        gone_at=_time(pod_failures.gone_at(metadata, status)),
        delete_by=metadata.get("deletionTimestamp"),
        worker=names.WORKER_LABEL in labels,
        image=_image(status),
        foreign=ownership.is_foreign(metadata),
    )


def _image(status: Body) -> str | None:
    """Return the digest of the engine's image."""
    for container in status.get("containerStatuses", []):
        found = _DIGEST.search(container.get("imageID", ""))
        if container["name"] == names.ENGINE_CONTAINER and found is not None:
            return _shared(found[0])
    return None


def fetcher(body: Body) -> Fetcher:
    """Return the projection of a pod that downloads or inspects a model, or pulls images onto its node."""
    metadata, status = body["metadata"], body.get("status") or {}
    labels = metadata.get("labels", {})
    return Fetcher(
        namespace=_shared(metadata["namespace"]),
        name=metadata["name"],
        service=_shared(labels.get(names.FETCH_LABEL) or labels[names.PREFETCH_LABEL]),
        task=labels.get(names.TASK_LABEL, ""),
        phase=_shared(status.get("phase", "Pending")),
        deleting="deletionTimestamp" in metadata,
        created=metadata["creationTimestamp"],
        address=status.get("podIP"),
        report=_report(status),
        trouble=_fetch_trouble(status),
        node=body.get("spec", {}).get("nodeName"),
        index=labels.get(names.COMPLETION_INDEX_LABEL, ""),
        foreign=ownership.is_foreign(metadata),
    )


def builder(body: Body) -> Builder:
    """Return the projection of a pod of a ModelBuild."""
    metadata, status = body["metadata"], body.get("status") or {}
    owners = metadata.get("ownerReferences") or ()
    return Builder(
        namespace=_shared(metadata["namespace"]),
        name=metadata["name"],
        build=_shared(metadata["labels"][names.BUILD_LABEL]),
        job=next((owner["uid"] for owner in owners if owner.get("controller")), ""),
        phase=_shared(status.get("phase", "Pending")),
        deleting="deletionTimestamp" in metadata,
        created=metadata["creationTimestamp"],
        address=status.get("podIP"),
        stages=tuple(
            _stage(container)
            for kind in ("initContainerStatuses", "containerStatuses")
            for container in status.get(kind, [])
        ),
        trouble=pod_failures.of(status),
    )


def _stage(container: Body) -> StageState:
    state = container.get("state", {})
    ended = state.get("terminated")
    if ended is None:
        return StageState(container["name"], "running" if "running" in state else "waiting")
    return StageState(
        container["name"],
        "terminated",
        exit_code=ended.get("exitCode"),
        message=ended.get("message") or "",
        out_of_memory=ended.get("reason") == pod_failures.OUT_OF_MEMORY,
    )


def _report(status: Body) -> str | None:
    """Return the termination message of the pod's container if it succeeded."""
    for container in _fetch_containers(status):
        ended = container.get("state", {}).get("terminated") or {}
        if ended.get("exitCode") == 0:
            return ended.get("message") or None
    return None


def _fetch_containers(status: Body) -> list[Body]:
    """Return the containers that fetch; a webhook of the cluster may have added others to the pod."""
    containers: Sequence[Body] = status.get("containerStatuses", [])
    ours = (names.FETCH_COMPONENT, names.PREFETCH_COMPONENT)
    return [one for one in containers if one.get("name") in ours]


def _fetch_trouble(status: Body) -> tuple[str, str] | None:
    """Return reason and message of a blocked or failed download; None while it runs."""
    for container in _fetch_containers(status):
        if "running" in container.get("state", {}):
            return None
        state = container.get("state", {})
        ended = state.get("terminated") or container.get("lastState", {}).get("terminated")
        if ended and ended.get("exitCode"):
            message = ended.get("message") or ended.get("reason", "")
            restarts = container.get("restartCount", 0)
            attempts = f" (tried {restarts + 1} times)" if restarts else ""
            return Reason.FETCH_FAILED, _short(f"{message.strip()}{attempts}")
    return pod_failures.of(status)


def _failure(status: Body) -> str | None:
    """Return why a Deployment can't create pods, such as a quota, pod security or a missing runtime class."""
    for condition in status.get("conditions", []):
        if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
            return _short(condition.get("message", "unknown"))
    return None


def _time(text: str | None) -> str | None:
    """Return the time; None if it is missing or can't be read, such as one in the year 0."""
    try:
        units.moment(text or "")
    except (ValueError, OverflowError):
        return None
    return text


def _short(text: str) -> str:
    return pod_failures.plain(text)[-pod_failures.MESSAGE_LENGTH :]
