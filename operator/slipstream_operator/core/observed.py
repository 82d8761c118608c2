"""Snapshot of the cluster that decisions are based on: frozen values, without any client library."""

import contextlib
import dataclasses
import functools
import json
import zlib
from collections.abc import Mapping
from typing import Any, TypeAlias

import pydantic

from slipstream_operator import names
from slipstream_operator.api.conditions import Condition
from slipstream_operator.core import pod_failures
from slipstream_operator.core.facts import Facts
from slipstream_runtime import contract

Manifest: TypeAlias = Mapping[str, Any]
"""A Kubernetes object, or part of one, as plain data."""


def text(manifest: Manifest) -> bytes:
    """As JSON; of equal manifests it is equal."""
    return json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode()


@dataclasses.dataclass(frozen=True, slots=True)
class Packed:
    """A manifest in little memory: as objects, those of thousands of services would take fifty times as much."""

    content: bytes
    like: bytes = b""
    """The text of another one, which it is packed as a difference from."""

    @property
    def manifest(self) -> Manifest:
        """As it was before."""
        return _unpacked(self)


def pack(manifest: Manifest, *, like: bytes = b"") -> Packed:
    """Equal manifests that are packed with the same `like` are equal."""
    packer = zlib.compressobj(zdict=like)
    return Packed(packer.compress(text(manifest)) + packer.flush(), like)


@functools.lru_cache(maxsize=128)
def _unpacked(packed: Packed) -> Manifest:
    """NB: kept for the few objects that a look at a service reads many times."""
    manifest: Manifest = json.loads(
        zlib.decompressobj(zdict=packed.like).decompress(packed.content)
    )
    return manifest


@dataclasses.dataclass(frozen=True, order=True, slots=True)
class Ref:
    """Reference to a child: kind, namespace and name."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


@dataclasses.dataclass(frozen=True, order=True, slots=True)
class Key:
    """Key of a service, route or router in the queue and the loops."""

    namespace: str
    name: str
    kind: str = names.INFERENCE_SERVICE

    def __str__(self) -> str:
        path = f"{self.namespace}/{self.name}"
        return path if self.kind == names.INFERENCE_SERVICE else f"{self.kind} {path}"


def router_key(namespace: str) -> Key:
    """The router of a namespace."""
    return Key(namespace, contract.ROUTER_NAME, names.ROUTER)


@dataclasses.dataclass(frozen=True, slots=True)
class Parent:
    """An InferenceService or InferenceRoute."""

    key: Key
    uid: str
    generation: int
    created: str
    deleting: bool
    packed_spec: Packed
    packed_status: Packed

    @property
    def spec(self) -> Manifest:
        """Still as the user wrote it."""
        return self.packed_spec.manifest

    @property
    def status(self) -> Manifest:
        """As it was written last."""
        return self.packed_status.manifest

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """Return the valid conditions of the status. NB: built at each call: thousands of them take much memory."""
        found = []
        for entry in self.status.get("conditions", []):
            with contextlib.suppress(pydantic.ValidationError):
                found.append(Condition.model_validate(entry))
        return tuple(found)


@dataclasses.dataclass(frozen=True)
class Profile:
    """A ServingProfile."""

    name: str
    created: str
    spec: Manifest


@dataclasses.dataclass(frozen=True, slots=True)
class Child:
    """An object that carries our labels; `controller` is the uid of its controlling owner, if any."""

    ref: Ref
    uid: str
    service: str
    controller: str | None
    deleting: bool
    packed: Packed
    status: Manifest = dataclasses.field(default_factory=dict)
    """Of the kinds whose state decides where requests go; empty for all others."""
    generation: int = 0
    """Likewise."""
    trouble: str | None = None
    """Why a Deployment can't make its pods, in the words of the API server."""

    @property
    def manifest(self) -> Manifest:
        """The object without managedFields and status."""
        return self.packed.manifest

    @property
    def revision(self) -> str | None:
        """The revision that it belongs to, by its label."""
        labels: Mapping[str, str] = self.manifest["metadata"].get("labels", {})
        return labels.get(names.REVISION_LABEL)


@dataclasses.dataclass(frozen=True, slots=True)
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
    """Reason and message of what keeps it from running or ended it, if the kubelet or the scheduler says so."""
    worker: bool = False
    """Whether it computes for a leader, and serves nobody."""
    ended_at: str | None = None
    """When it ended, in phase Failed or Succeeded; None if it may still run."""

    @property
    def ended(self) -> bool:
        """Whether it never runs again: no pod of the service any more, though it may stay for days."""
        return self.phase in pod_failures.ENDED


@dataclasses.dataclass(frozen=True, slots=True)
class Fetcher:
    """A pod that downloads or inspects a model before engines start, or that has its node pull images."""

    namespace: str
    name: str
    service: str
    task: str
    """Hash of what it does."""
    phase: str
    deleting: bool
    created: str
    address: str | None
    """IP address, once it has one."""
    report: str | None
    """Report of the Job's pod when it succeeded."""
    trouble: tuple[str, str] | None
    """Reason and message of what keeps it from running, or of its last failure."""
    node: str | None = None
    """Name of its node, once it has one."""


@dataclasses.dataclass(frozen=True)
class Listed:
    """Service's entry in the configuration of its namespace's router, as the cluster has it."""

    available: bool = False
    """Whether as many routers as wanted take requests."""
    answers: bool = False
    """Whether at least one does."""
    trouble: str | None = None
    entry: Manifest | None = None
    """The service in the router's configuration; None while it is not there."""
    keys: str | None = None
    """The Secret of its clients' keys that the router has mounted."""

    @property
    def active(self) -> str | None:
        """Name of the revision that gets most of the requests."""
        revisions = self.entry["revisions"] if self.entry else []
        found = max(revisions, key=lambda revision: revision["weight"], default=None)
        return found["name"] if found and found["weight"] else None


@dataclasses.dataclass(frozen=True)
class GatewayState:
    """The inference gateway that a service names, as the cluster has it."""

    kinds: bool = False
    """Whether the cluster has HTTPRoute and InferencePool."""
    status: Manifest | None = None
    """Of the Gateway; None if there is none of this name."""


@dataclasses.dataclass(frozen=True)
class ObservedRouter:
    """A snapshot of everything that one look at a namespace's router depends on, besides what services ask for."""

    namespace: str
    namespace_labels: Mapping[str, str]
    profiles: tuple[Profile, ...]
    children: tuple[Child, ...]
    services: tuple[Parent, ...]
    routes: tuple[Parent, ...]
    pod_monitors: bool
    listed_routes: Mapping[str, Manifest] = dataclasses.field(default_factory=dict)
    """Route -> entry, in the router's configuration as the cluster has it."""

    def child(self, kind: str) -> Child | None:
        """The router's object of this kind, if it is known."""
        return next((child for child in self.children if child.ref.kind == kind), None)


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
    router: Listed = Listed()
    gateway: GatewayState = GatewayState()
    siblings: tuple[Parent, ...] = ()
    """The other services of the namespace; empty where no profile has a quota."""
    facts: Facts | None = None
    """Size and configuration of the model and its draft; None until the checkpoints were inspected."""
    workers: tuple[Pod, ...] = ()
    """Pods that compute for the leaders among `pods`."""
    fetchers: tuple[Fetcher, ...] = ()
    """Pods that download or inspect the model."""
    prefetchers: tuple[Fetcher, ...] = ()
    """Pods that have their nodes pull images."""
    leader_worker_sets: bool = False
    """Whether the cluster has the LeaderWorkerSet kind."""

    @property
    def live_pods(self) -> list[Pod]:
        """Pods that run or may come to run."""
        return [pod for pod in self.pods if not pod.ended]

    def child(self, kind: str, name: str) -> Child | None:
        """The child of this kind and name, if it is known."""
        ref = Ref(kind, self.parent.key.namespace, name)
        return next((child for child in self.children if child.ref == ref), None)
