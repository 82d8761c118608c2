"""Snapshot of the cluster, as frozen values without a client library."""

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
from slipstream_operator.core.key_problems import KeyProblem
from slipstream_runtime import contract

Manifest: TypeAlias = Mapping[str, Any]
"""A Kubernetes object, or part of one, as plain data."""


def text(manifest: Manifest) -> bytes:
    """Return the manifest as JSON. Equal manifests give equal text."""
    return json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode()


@dataclasses.dataclass(frozen=True, slots=True)
class Packed:
    """Compressed manifest, which takes a fiftieth of the memory of Python objects."""

    content: bytes
    like: bytes = b""
    """Text of another manifest, which serves as the dictionary of the compression."""

    @property
    def manifest(self) -> Manifest:
        """Return the original manifest."""
        return _unpacked(self)


def pack(manifest: Manifest, *, like: bytes = b"") -> Packed:
    """Compress a manifest. Equal manifests with the same `like` give equal results."""
    packer = zlib.compressobj(zdict=like)
    return Packed(packer.compress(text(manifest)) + packer.flush(), like)


@functools.lru_cache(maxsize=128)
def _unpacked(packed: Packed) -> Manifest:
    """Return the manifest. NB: the cache serves the few objects that one reconcile reads many times."""
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
    """Return the key of the router of a namespace."""
    return Key(namespace, contract.ROUTER_NAME, names.ROUTER)


@dataclasses.dataclass(frozen=True, slots=True)
class Parent:
    """InferenceService, InferenceRoute or ModelBuild."""

    key: Key
    uid: str
    generation: int
    created: str
    deleting: bool
    packed_spec: Packed
    packed_status: Packed
    commands: tuple[tuple[str, str], ...] = ()
    """Commands for the rollout and their values, from the annotations."""

    @property
    def spec(self) -> Manifest:
        """Return the spec as the user wrote it."""
        return self.packed_spec.manifest

    @property
    def status(self) -> Manifest:
        """Return the status as last written."""
        return self.packed_status.manifest

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """Return the valid conditions of the status. NB: they are built at each call to save memory."""
        found = []
        for entry in self.status.get("conditions", []):
            with contextlib.suppress(pydantic.ValidationError):
                found.append(Condition.model_validate(entry))
        return tuple(found)


@dataclasses.dataclass(frozen=True)
class Profile:
    """ServingProfile."""

    name: str
    created: str
    spec: Manifest


@dataclasses.dataclass(frozen=True, slots=True)
class BuildView:
    """State of a ModelBuild, as the services that name it see it."""

    name: str
    phase: str
    artifact: str | None
    """Uri of the published artifact; None before the build is Ready."""
    digest: str | None
    """Hash of the artifact's manifest; None before the build is Ready."""
    reason: str
    message: str
    """State of the build as a sentence, with its step, percent and remaining time while it runs."""
    exported: bool = False
    """Whether the artifact is an export for ONNX Runtime."""
    output: str | None = None
    """Uri that the build publishes to, as its spec has it; None if unknown."""


@dataclasses.dataclass(frozen=True, slots=True)
class Child:
    """Object with our labels. `controller` is the uid of its controlling owner, if it has one."""

    ref: Ref
    uid: str
    service: str
    controller: str | None
    deleting: bool
    packed: Packed
    status: Manifest = dataclasses.field(default_factory=dict)
    """Status of kinds whose state affects routing; empty for all other kinds."""
    generation: int = 0
    """Generation of these kinds; 0 for all other kinds."""
    trouble: str | None = None
    """Message of the API server if a Deployment can't create its pods."""

    @property
    def manifest(self) -> Manifest:
        """Return the object without managedFields and status."""
        return self.packed.manifest

    @property
    def revision(self) -> str | None:
        """Return the revision of the object, from its label."""
        labels: Mapping[str, str] = self.manifest["metadata"].get("labels", {})
        return labels.get(names.REVISION_LABEL)


@dataclasses.dataclass(frozen=True, slots=True)
class ObservedPod:
    """Engine pod."""

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
    """Reason and message of the failure that keeps the pod from running or ended it, if there is one."""
    worker: bool = False
    """Whether the pod computes for a leader and serves no requests."""
    gone_at: str | None = None
    """Time when the pod ended or its deletion was requested; None of a current pod."""
    delete_by: str | None = None
    """End of the grace period of the pod's deletion; None if it is not being deleted."""
    image: str | None = None
    """Digest of the engine's image; None until the node reports it."""
    foreign: bool = False
    """Whether no workload of the service controls the pod, which only has its labels."""

    @property
    def ended(self) -> bool:
        """Whether the pod never runs again. It may stay in the cluster for days."""
        return self.phase in pod_failures.ENDED

    @property
    def current(self) -> bool:
        """Whether the pod runs or can still run. No other pod is a replica."""
        return not (self.ended or self.deleting)


@dataclasses.dataclass(frozen=True, slots=True)
class Lost:
    """Loss of one pod, or of several in one burst."""

    reason: str
    message: str
    at: float
    """Time of the newest loss, in seconds since the epoch."""


@dataclasses.dataclass(frozen=True, slots=True)
class PodHistory:
    """Part of the pods' past that is lost with their objects. Times are seconds since the epoch."""

    ready_at: float = 0.0
    """Time when an engine last became ready; 0 if none is known."""
    lost: Lost | None = None
    """The newest loss since then."""


@dataclasses.dataclass(frozen=True, slots=True)
class Fetcher:
    """Pod that downloads or inspects a model before engines start, or that makes its node pull images."""

    namespace: str
    name: str
    service: str
    task: str
    """Hash of the task."""
    phase: str
    deleting: bool
    created: str
    address: str | None
    """IP address, if it has one."""
    report: str | None
    """Report of the pod after it succeeded."""
    trouble: tuple[str, str] | None
    """Reason and message of the failure that keeps it from running, or of its last failure."""
    node: str | None = None
    """Name of its node, if it has one."""
    index: str = ""
    """Completion index in its Job; empty if it has none."""
    foreign: bool = False
    """Whether no Job of the service controls the pod, which only has its labels."""


@dataclasses.dataclass(frozen=True, slots=True)
class StageState:
    """State of one container of a build's pod."""

    name: str
    state: str
    """waiting, running or terminated."""
    exit_code: int | None = None
    message: str = ""
    """Termination message."""
    out_of_memory: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Builder:
    """Pod of a ModelBuild."""

    namespace: str
    name: str
    build: str
    job: str
    """uid of its Job."""
    phase: str
    deleting: bool
    created: str
    address: str | None
    """IP address, if it has one."""
    stages: tuple[StageState, ...]
    """Its containers in the order of their runs."""
    trouble: tuple[str, str] | None
    """Reason and message of the failure that keeps it from running or ended it."""


@dataclasses.dataclass(frozen=True)
class ObservedBuild:
    """Snapshot of everything that one reconcile of a ModelBuild depends on."""

    parent: Parent
    namespace_labels: Mapping[str, str]
    profiles: tuple[Profile, ...]
    children: tuple[Child, ...]
    pods: tuple[Builder, ...]
    complaints: tuple[tuple[str, str], ...] = ()
    """Service of the namespace that names the build, and the failure of one of its engines or downloads."""

    def child(self, kind: str) -> Child | None:
        """Return the child of this kind that the build owns; None if there is none."""
        owned = (one for one in self.children if one.controller == self.parent.uid)
        return next((one for one in owned if one.ref.kind == kind), None)


@dataclasses.dataclass(frozen=True)
class RouterState:
    """State of the namespace's router, and the service's entry in its configuration."""

    available: bool = False
    """Whether all desired router pods are available."""
    answers: bool = False
    """Whether at least one router pod is available."""
    trouble: str | None = None
    entry: Manifest | None = None
    """Entry of the service in the router's configuration; None if there is none."""
    foreign: tuple[str, ...] = ()
    """Names of pods with the labels of the router that its Deployment does not own."""
    keys: KeyProblem | None = None
    """Problem of the service's API keys, as the router reports it."""

    @property
    def active(self) -> str | None:
        """Return the name of the revision with the highest weight; None if there is none."""
        revisions = self.entry["revisions"] if self.entry else []
        found = max(revisions, key=lambda revision: revision["weight"], default=None)
        return found["name"] if found and found["weight"] else None


@dataclasses.dataclass(frozen=True)
class GatewayState:
    """State of the inference gateway of a service."""

    kinds: bool = False
    """Whether the cluster has HTTPRoute and InferencePool."""
    status: Manifest | None = None
    """Status of the Gateway; None if the Gateway does not exist."""


@dataclasses.dataclass(frozen=True)
class ObservedRouter:
    """Snapshot of everything that one reconcile of a namespace's router depends on, besides the services' entries."""

    namespace: str
    namespace_labels: Mapping[str, str]
    profiles: tuple[Profile, ...]
    children: tuple[Child, ...]
    services: tuple[Parent, ...]
    routes: tuple[Parent, ...]
    pod_monitors: bool
    listed_routes: Mapping[str, Manifest] = dataclasses.field(default_factory=dict)
    """Route -> entry in the router's current configuration."""

    def child(self, kind: str) -> Child | None:
        """Return the router's object of this kind; None if there is none."""
        return next((child for child in self.children if child.ref.kind == kind), None)


@dataclasses.dataclass(frozen=True)
class Observed:
    """Snapshot of everything that one reconcile of a service depends on."""

    parent: Parent
    namespace_labels: Mapping[str, str]
    profiles: tuple[Profile, ...]
    children: tuple[Child, ...]
    pods: tuple[ObservedPod, ...]
    """Current pods of engines: none that has ended or is being deleted."""
    name_holders: Mapping[str, Key]
    """Model name -> the oldest service of the namespace that claims it."""
    pod_monitors: bool
    """Whether the cluster has the PodMonitor kind."""
    router: RouterState = RouterState()
    gateway: GatewayState = GatewayState()
    siblings: tuple[Parent, ...] = ()
    """Other services of the namespace; empty if no profile has a quota."""
    facts: Facts | None = None
    """Size and configuration of the model and its draft; None until the checkpoints are inspected."""
    workers: tuple[ObservedPod, ...] = ()
    """Current pods that compute for the leaders among `pods`."""
    gone: tuple[ObservedPod, ...] = ()
    """Engines and workers that have ended or are being deleted. They only explain a loss, and hold devices until they
    end."""
    history: PodHistory = PodHistory()
    """Knowledge of the last reconcile about pods that may be deleted by now."""
    fetchers: tuple[Fetcher, ...] = ()
    """Pods that download or inspect the model."""
    prefetchers: tuple[Fetcher, ...] = ()
    """Pods that make their nodes pull images."""
    leader_worker_sets: bool = False
    """Whether the cluster has the LeaderWorkerSet kind."""
    foreign: tuple[str, ...] = ()
    """Names of pods with labels of the service's pods that none of its workloads owns."""
    builds: Mapping[str, BuildView] = dataclasses.field(default_factory=dict)
    """Name -> ModelBuild of the namespace, for the builds that the spec names and that exist."""

    def child(self, kind: str, name: str) -> Child | None:
        """Return the child of this kind and name; None if there is none."""
        ref = Ref(kind, self.parent.key.namespace, name)
        return next((child for child in self.children if child.ref == ref), None)
