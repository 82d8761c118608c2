"""What the operator knows about the cluster when it decides: frozen values, without any client library."""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeAlias

from slipstream_operator import names
from slipstream_operator.api.conditions import Condition

Manifest: TypeAlias = Mapping[str, Any]
"""A Kubernetes object, or part of one, as plain data."""


@dataclasses.dataclass(frozen=True, order=True)
class Ref:
    """Which child: kind, namespace and name."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


@dataclasses.dataclass(frozen=True, order=True)
class Key:
    """Which service: what the queue and the loops are keyed by."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclasses.dataclass(frozen=True)
class Parent:
    """An InferenceService, its spec still as the user wrote it."""

    key: Key
    uid: str
    generation: int
    created: str
    deleting: bool
    spec: Manifest
    status: Manifest
    conditions: tuple[Condition, ...]


@dataclasses.dataclass(frozen=True)
class Profile:
    """A ServingProfile."""

    name: str
    created: str
    spec: Manifest


@dataclasses.dataclass(frozen=True)
class Child:
    """An object that carries our labels; `controller` is the uid of its controlling owner, if any."""

    ref: Ref
    uid: str
    service: str
    controller: str | None
    deleting: bool
    manifest: Manifest
    """Without managedFields and status."""
    trouble: str | None = None
    """Why a Deployment can't make its pods, in the words of the API server."""

    @property
    def revision(self) -> str | None:
        """The revision that it belongs to, by its label."""
        labels: Mapping[str, str] = self.manifest["metadata"].get("labels", {})
        return labels.get(names.REVISION_LABEL)


@dataclasses.dataclass(frozen=True)
class Pod:
    """An engine pod."""

    namespace: str
    name: str
    service: str
    revision: str
    phase: str
    ready: bool
    deleting: bool
    created: str
    ready_since: str | None
    trouble: tuple[str, str] | None
    """Reason and message of what keeps it from running, if the kubelet or the scheduler says so."""


@dataclasses.dataclass(frozen=True)
class Observed:
    """A snapshot of everything that one reconcile of a service depends on."""

    parent: Parent
    namespace_labels: Mapping[str, str]
    profiles: tuple[Profile, ...]
    children: tuple[Child, ...]
    pods: tuple[Pod, ...]
    name_holders: Mapping[str, Key]
    """Model name -> the oldest service of the namespace that claims it."""
    pod_monitors: bool
    """Whether the cluster has the PodMonitor kind."""

    def child(self, kind: str, name: str) -> Child | None:
        """The child of this kind and name, if it is known."""
        ref = Ref(kind, self.parent.key.namespace, name)
        return next((child for child in self.children if child.ref == ref), None)
