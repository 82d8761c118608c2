"""Builders of the values that tests start from; everything has a sensible default."""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from slipstream_operator import names
from slipstream_operator.api import units
from slipstream_operator.core import (
    histograms,
    objectives,
    render,
    resolve,
    revisions,
    router_config,
)
from slipstream_operator.core.facts import Facts
from slipstream_operator.core.observed import (
    BuildView,
    Child,
    Fetcher,
    GatewayState,
    Key,
    Observed,
    ObservedPod,
    ObservedRouter,
    Parent,
    Profile,
    Ref,
    RouterState,
    pack,
)
from slipstream_operator.core.render import config
from slipstream_operator.core.resolved import Resolved, Revisioned
from slipstream_operator.core.scaling.bounds import Bounds
from slipstream_operator.core.scaling.inputs import Inputs
from slipstream_operator.core.scaling.metrics.query_results import QueryResults
from slipstream_operator.core.scaling.metrics.values import (
    Load,
    PodLoad,
    RawSample,
    Reading,
    Sample,
    Samples,
    Unknown,
)
from slipstream_operator.core.scaling.state import State
from slipstream_operator.core.scaling.supply import PodStatus

NAMESPACE = "team"
NAME = "chat"
UID = "uid-of-chat"
KEY = Key(NAMESPACE, NAME)
CREATED = "2026-01-01T00:00:00Z"
NOW = "2026-01-02T03:04:05Z"
MOMENT = units.moment(NOW)
MODEL = {"uri": "hf://org/model"}

PROFILE: dict[str, Any] = {
    "accelerators": [
        {"name": "gpu", "resourceName": "nvidia.com/gpu"},
        {"name": "cpu", "resources": {"requests": {"memory": "1Gi"}, "limits": {"memory": "4Gi"}}},
    ],
    "images": {
        "vllm": "image/vllm:1",
        "vllmCpu": "image/cpu:1",
        "onnx": "image/onnx:1",
        "router": "image/router:1",
        "picker": "image/picker:1",
    },
    "prometheus": {"url": "http://prometheus.monitoring.svc:9090"},
}

TEMPLATE: dict[str, Any] = {
    "affinity": {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [
                    {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a", "b"]}]}
                ]
            }
        },
        "podAntiAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [
                {
                    "weight": 50,
                    "podAffinityTerm": {
                        "topologyKey": "kubernetes.io/hostname",
                        "labelSelector": {"matchLabels": {"app": "noisy"}},
                    },
                }
            ]
        },
    },
    "volumes": [
        {"name": "rules", "configMap": {"name": "rules", "items": [{"key": "a", "path": "a.txt"}]}},
        {"name": "keys", "secret": {"secretName": "keys", "defaultMode": 0o440}},
        {"name": "spare", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}},
        {"name": "data", "persistentVolumeClaim": {"claimName": "data", "readOnly": True}},
        {
            "name": "identity",
            "projected": {
                "sources": [
                    {"serviceAccountToken": {"path": "token", "audience": "cloud"}},
                    {"configMap": {"name": "roots"}},
                ]
            },
        },
        {"name": "weights", "image": {"reference": "registry/m:1", "pullPolicy": "IfNotPresent"}},
        {"name": "vault", "csi": {"driver": "secrets-store.csi.k8s.io", "readOnly": True}},
        {
            "name": "fast",
            "ephemeral": {
                "volumeClaimTemplate": {
                    "spec": {
                        "accessModes": ["ReadWriteOnce"],
                        "resources": {"requests": {"storage": "100Gi"}},
                    }
                }
            },
        },
    ],
    "volumeMounts": [
        {"name": "rules", "mountPath": "/etc/rules", "readOnly": True},
        {"name": "data", "mountPath": "/mnt/data", "subPath": "models"},
    ],
    "initContainers": [
        {
            "name": "fetch",
            "image": "registry.example.com/tools:1",
            "command": ["fetch"],
            "args": ["--all"],
            "env": [{"name": "FROM", "value": "here"}],
            "resources": {"requests": {"cpu": "100m"}},
            "volumeMounts": [{"name": "spare", "mountPath": "/mnt/spare"}],
        }
    ],
    "imagePullSecrets": [{"name": "registry"}],
    "supplementalGroups": [44],
    "schedulerName": "gang",
    "topologySpreadConstraints": [
        {
            "maxSkew": 1,
            "topologyKey": "topology.kubernetes.io/zone",
            "whenUnsatisfiable": "DoNotSchedule",
            "minDomains": 2,
            "labelSelector": {"matchLabels": {"team": "a"}},
            "matchLabelKeys": ["pod-template-hash"],
            "nodeAffinityPolicy": "Honor",
            "nodeTaintsPolicy": "Honor",
        }
    ],
}
"""spec.template with a volume of every kind."""


def parent(
    spec: Mapping[str, Any] | None = None,
    *,
    key: Key = KEY,
    uid: str = UID,
    generation: int = 1,
    created: str = CREATED,
    deleting: bool = False,
    status: Mapping[str, Any] | None = None,
) -> Parent:
    """An InferenceService that serves a model."""
    return Parent(
        key=key,
        uid=uid,
        generation=generation,
        created=created,
        deleting=deleting,
        packed_spec=pack({"model": MODEL} if spec is None else spec),
        packed_status=pack(status or {}),
    )


def profile(
    *, name: str = "default", created: str = CREATED, without: Sequence[str] = (), **spec: Any
) -> Profile:
    """A ServingProfile with a GPU, which is the default, and a CPU."""
    merged = {**PROFILE, **spec}
    return Profile(
        name, created, {field: value for field, value in merged.items() if field not in without}
    )


def pod(
    revision: str,
    *,
    name: str = "",
    service: str = NAME,
    ready: bool = True,
    deleting: bool = False,
    created: str = CREATED,
    trouble: tuple[str, str] | None = None,
    worker: bool = False,
    phase: str | None = None,
    gone_at: str | None = None,
) -> ObservedPod:
    """An engine pod, ready unless said otherwise."""
    return ObservedPod(
        namespace=NAMESPACE,
        name=name or f"{service}-{revision}-0",
        service=service,
        revision=revision,
        phase=phase or ("Running" if ready else "Pending"),
        ready=ready,
        deleting=deleting,
        created=created,
        ready_since=created if ready else None,
        trouble=trouble,
        worker=worker,
        gone_at=gone_at or (NOW if deleting else created if phase else None),
        delete_by=gone_at or NOW if deleting else None,
    )


def pods(revision: str, count: int, *, ready: bool = True) -> tuple[ObservedPod, ...]:
    """Several alike."""
    return tuple(pod(revision, name=f"pod-{revision}-{n}", ready=ready) for n in range(count))


def child(
    manifest: Mapping[str, Any], *, controller: str | None = UID, deleting: bool = False
) -> Child:
    """What the store knows of this object once it is in the cluster."""
    metadata = manifest["metadata"]
    if controller != UID:
        owners = [{"uid": controller, "controller": True}] if controller else []
        manifest = {**manifest, "metadata": {**metadata, "ownerReferences": owners}}
    ref = Ref(manifest["kind"], metadata["namespace"], metadata["name"])
    return Child(
        ref=ref,
        uid=f"uid-of-{ref.kind}-{ref.name}",
        service=metadata["labels"].get(names.SERVICE_LABEL, ""),
        controller=controller,
        deleting=deleting,
        packed=pack(manifest),
    )


def observed(
    spec: Mapping[str, Any] | None = None,
    *,
    parent: Parent | None = None,
    labels: Mapping[str, str] | None = None,
    profiles: Sequence[Profile] | None = None,
    children: Sequence[Child] = (),
    pods: Sequence[ObservedPod] = (),
    name_holders: Mapping[str, Key] | None = None,
    pod_monitors: bool = False,
    router: RouterState | None = None,
    gateway: GatewayState | None = None,
    facts: Facts | None = None,
    workers: Sequence[ObservedPod] = (),
    fetchers: Sequence[Fetcher] = (),
    prefetchers: Sequence[Fetcher] = (),
    leader_worker_sets: bool = False,
    builds: Sequence[BuildView] = (),
) -> Observed:
    """A snapshot, of a cluster that holds nothing of the service yet unless said otherwise."""
    gone = tuple(pod for pod in (*pods, *workers) if not pod.current)
    return Observed(
        parent=parent or _parent(spec),
        namespace_labels=labels or {},
        profiles=tuple(profiles) if profiles is not None else (profile(),),
        children=tuple(children),
        pods=tuple(pod for pod in pods if pod.current),
        name_holders=name_holders or {},
        pod_monitors=pod_monitors,
        router=router or RouterState(available=True, answers=True),
        gateway=gateway or GatewayState(),
        facts=facts,
        workers=tuple(pod for pod in workers if pod.current),
        gone=gone,
        fetchers=tuple(fetchers),
        prefetchers=tuple(prefetchers),
        leader_worker_sets=leader_worker_sets,
        builds={view.name: view for view in builds},
    )


_parent = parent


def build(
    artifact: str | None = "pvc://artifacts/small",
    *,
    name: str = "small",
    digest: str = "a" * 64,
    phase: str | None = None,
    message: str = "",
    exported: bool = False,
    output: str | None = None,
) -> BuildView:
    """A ModelBuild as services see it: Ready if it has published something, running otherwise."""
    phase = phase or ("Ready" if artifact else "Running")
    published = digest if artifact else None
    return BuildView(
        name,
        phase,
        artifact,
        published,
        reason=phase,
        message=message,
        exported=exported,
        output=output,
    )


def resolved(spec: Mapping[str, Any] | None = None, **snapshot: Any) -> Resolved:
    """The service with every decision made."""
    return resolve.resolve(observed(spec, **snapshot))


def rendered(snapshot: Observed, *, replicas: int = 1, scaling: str = "{}") -> list[dict[str, Any]]:
    """All children that the snapshot asks for."""
    decided = resolve.resolve(snapshot)
    rollout = revisions.roll_out(snapshot, decided, replicas=replicas, now=MOMENT)
    state = {config.SCALING_KEY: scaling} if decided.bounds.follows_load else {}
    return render.render(snapshot, decided, rollout, state=state)


def entry(snapshot: Observed, *, replicas: int = 1) -> router_config.Entry | None:
    """The service in the router's configuration."""
    decided = resolve.resolve(snapshot)
    rollout = revisions.roll_out(snapshot, decided, replicas=replicas, now=MOMENT)
    return router_config.entry(decided, rollout, kv_capacity=None)


def router(
    services: Sequence[Parent],
    *,
    routes: Sequence[Parent] = (),
    profiles: Sequence[Profile] | None = None,
    children: Sequence[Child] = (),
    pod_monitors: bool = False,
    listed_routes: Mapping[str, Any] | None = None,
) -> ObservedRouter:
    """A namespace, as its router sees it."""
    return ObservedRouter(
        namespace=NAMESPACE,
        namespace_labels={},
        profiles=tuple(profiles) if profiles is not None else (profile(),),
        children=tuple(children),
        services=tuple(services),
        routes=tuple(routes),
        pod_monitors=pod_monitors,
        listed_routes=listed_routes or {},
    )


def realised(snapshot: Observed, *, replicas: int = 1) -> Observed:
    """The snapshot after everything that it asks for was applied."""
    children = tuple(child(manifest) for manifest in rendered(snapshot, replicas=replicas))
    return dataclasses.replace(snapshot, children=children)


def identity(spec: Mapping[str, Any] | None = None, **snapshot: Any) -> str:
    """Hash of the revision that the spec asks for."""
    return revisions.identity(resolved(spec, **snapshot).revisioned)


def find(manifests: Sequence[Mapping[str, Any]], kind: str, *, name: str | None = None) -> Any:
    """The one manifest of this kind (and name)."""
    (found,) = (
        manifest
        for manifest in manifests
        if manifest["kind"] == kind and name in (None, manifest["metadata"]["name"])
    )
    return found


def objective(
    *, metric: str = "ttft", percentile: str = "p95", target: float = 0.5
) -> objectives.Objective:
    """`ttft-p95` within half a second."""
    return objectives.Objective(metric, percentile, target, f"{target * 1000:.0f}ms")


def reading(
    *, current: float | None = 0.25, requests: float = 100.0, target: float = 0.5, **attained: float
) -> Reading:
    """A measured objective, all requests near `current`; `attained` by span, such as `_5m=0.99`."""
    spans = {span.removeprefix("_"): share for span, share in attained.items()}
    now = histograms.EMPTY
    if current is not None:
        now = histograms.from_buckets(
            [(0.9 * current, 0.0), (1.1 * current, requests), (math.inf, requests)]
        )
    return Reading(objective(target=target), current, requests, spans, now)


def pod_load(
    running: float = 4.0, *, waiting: float = 0.0, kv: float = 0.1, **rates: Any
) -> PodLoad:
    """What one engine carries, in steady state: gauges are as their means."""
    return PodLoad(
        running=running,
        waiting=waiting,
        kv=kv,
        running_mean=rates.pop("running_mean", running),
        waiting_mean=rates.pop("waiting_mean", waiting),
        kv_mean=rates.pop("kv_mean", kv),
        **rates,
    )


def load(
    in_flight: float = 4.0,
    *,
    waiting: float = 0.0,
    kv_usage: float = 0.1,
    tokens_per_second: float = 100.0,
    complete: bool = True,
    **of_service: Any,
) -> Load:
    """What one ready engine carries."""
    pod = pod_load(in_flight - waiting, waiting=waiting, kv=kv_usage, output=tokens_per_second)
    return Load(pods=(pod,), complete=complete, **of_service)


def bounds(
    minimum: int = 1, maximum: int = 10, *, follows_load: bool = True, **options: Any
) -> Bounds:
    """1 to 10 replicas by load."""
    return Bounds(minimum, maximum, follows_load, **options)


def supplied(ready: int = 1, *, starting: int = 0, now: float = 1000.0) -> tuple[PodStatus, ...]:
    """Pods as the policy sees them: ready for long, or just created."""
    long_ago = now - 10_000.0
    return (
        *(PodStatus(f"pod-{n}", long_ago, long_ago + 60.0) for n in range(ready)),
        *(PodStatus(f"new-{n}", now - 10.0, None) for n in range(starting)),
    )


def inputs(**fields: Any) -> Inputs:
    """One ready engine with light load, inside its objectives; `ready` and `starting` make pods."""
    now = fields.setdefault("now", 1000.0)
    pods = supplied(fields.pop("ready", 1), starting=fields.pop("starting", 0), now=now)
    base = Inputs(
        now=now,
        bounds=bounds(),
        pods=pods,
        rolling=False,
        load=load(),
        readings=(reading(),),
        objectives=objectives.Objectives((objective(),)),
        scale_down_window=300.0,
    )
    return dataclasses.replace(base, **fields)


def state(desired: int = 1, **fields: Any) -> State:
    """The count was decided long ago."""
    return dataclasses.replace(State(desired, 0.0, "as the service was found"), **fields)


def revisioned(**fields: Any) -> Revisioned:
    """What a pod must be restarted for, of the default service."""
    return dataclasses.replace(resolved().revisioned, **fields)


def raw(result: Sequence[Sample] | Unknown) -> list[RawSample] | Unknown:
    """The samples as they come from Prometheus."""
    if isinstance(result, Unknown):
        return result
    return [(json.dumps(labels, separators=(",", ":")).encode(), value) for labels, value in result]


def grouped(samples: Samples) -> QueryResults:
    """A round in which each answer came in one part."""
    found = QueryResults()
    for name, result in samples.items():
        found.take(name, raw(result))
    return found
