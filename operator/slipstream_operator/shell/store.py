"""Store of all watched objects as frozen projections: snapshots for reconciles cost no API call.

kopf's own indices are quadratic at start, hence this. Every change names the services that it concerns.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Final

from slipstream_operator import names
from slipstream_operator.core import router
from slipstream_operator.core.observed import (
    Child,
    Fetcher,
    GatewayState,
    Key,
    Listed,
    Manifest,
    Observed,
    ObservedRouter,
    Parent,
    Pod,
    Profile,
    Ref,
    router_key,
)
from slipstream_operator.shell import projections
from slipstream_operator.shell.packing import Packer
from slipstream_operator.shell.projections import Body
from slipstream_runtime import contract

POD_MONITOR_CRD: Final = "podmonitors.monitoring.coreos.com"
GATEWAY_CRDS: Final = (
    "httproutes.gateway.networking.k8s.io",
    "inferencepools.inference.networking.k8s.io",
)
LEADER_WORKER_SET_CRD: Final = "leaderworkersets.leaderworkerset.x-k8s.io"
_OPTIONAL: Final = (POD_MONITOR_CRD, LEADER_WORKER_SET_CRD, *GATEWAY_CRDS)
_FETCHING: Final = (names.FETCH_LABEL, names.PREFETCH_LABEL)
CHILD_KINDS: Final = (
    *names.WORKLOADS,
    names.JOB,
    "Service",
    "ConfigMap",
    "NetworkPolicy",
    "PodDisruptionBudget",
    "PodMonitor",
    names.RESOURCE_CLAIM_TEMPLATE,
    *names.GATEWAY_CHILDREN,
    "Lease",
    "ServiceAccount",
    "Role",
    "RoleBinding",
)


@dataclasses.dataclass(slots=True)
class _Family:
    """Everything that is known of one service."""

    parent: Parent | None = None
    children: dict[Ref, Child] = dataclasses.field(default_factory=dict)
    pods: dict[str, Pod] = dataclasses.field(default_factory=dict)
    workers: dict[str, Pod] = dataclasses.field(default_factory=dict)
    fetchers: dict[str, Fetcher] = dataclasses.field(default_factory=dict)
    prefetchers: dict[str, Fetcher] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class _Router:
    """Everything that is known of the router of one namespace."""

    children: dict[Ref, Child] = dataclasses.field(default_factory=dict)
    entries: Mapping[str, Manifest] = dataclasses.field(default_factory=dict)
    """Service -> entry, by the router's ConfigMap."""
    routes: Mapping[str, Manifest] = dataclasses.field(default_factory=dict)
    """InferenceRoute -> entry, likewise."""
    available: bool = False
    answers: bool = False
    trouble: str | None = None
    keys: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Service -> Secret of its clients' keys, by the router's Deployment."""


class Store:
    """Fed by watch events; read by the loops."""

    def __init__(self) -> None:
        self._packer = Packer()
        self._families: dict[str, dict[str, _Family]] = {}
        self._profiles: dict[str, Profile] = {}
        self._namespaces: dict[str, Mapping[str, str]] = {}
        self._definitions: set[str] = set()
        """Names of the optional CustomResourceDefinitions that the cluster has."""
        self._gateways: dict[tuple[str, str], Manifest] = {}
        """(namespace, name) -> status."""
        self._seen: dict[str, set[str]] = {}
        self._routers: dict[str, _Router] = {}
        self._routes: dict[str, dict[str, Parent]] = {}
        self._claims: dict[tuple[str, str], dict[Key, Parent]] = {}
        """(namespace, model name) -> the services that ask for the name."""

    def feed(self, kind: str, body: Body, *, gone: bool) -> Iterable[Key]:
        """Take in one watch event; the keys of the services to look at again."""
        self._note_seen(kind, body["metadata"]["uid"], gone=gone)
        if kind == names.INFERENCE_SERVICE:
            return self._feed_parent(projections.parent(body, packer=self._packer), gone=gone)
        if kind == names.INFERENCE_ROUTE:
            return self._feed_route(
                projections.parent(body, kind=kind, packer=self._packer), gone=gone
            )
        if kind == names.SERVING_PROFILE:
            return self._feed_profile(projections.profile(body), gone=gone)
        if kind == "Namespace":
            return self._feed_namespace(body, gone=gone)
        if kind == "CustomResourceDefinition":
            return self._feed_definition(body, gone=gone)
        if kind == names.GATEWAY:
            return self._feed_gateway(body, gone=gone)
        labels = body["metadata"].get("labels", {})
        if kind == "Pod" and not labels.keys().isdisjoint(_FETCHING):
            prefetches = names.PREFETCH_LABEL in labels
            return self._feed_fetcher(projections.fetcher(body), prefetches=prefetches, gone=gone)
        if kind == "Pod":
            return self._feed_pod(projections.pod(body), gone=gone)
        return self._feed_child(projections.child(kind, body, packer=self._packer), gone=gone)

    def has_seen(self, kind: str, uids: set[str]) -> bool:
        """Whether all of these objects came by already."""
        return uids <= self._seen.get(kind, set())

    def keys(self) -> list[Key]:
        """All services."""
        return [
            family.parent.key
            for families in self._families.values()
            for family in families.values()
            if family.parent is not None
        ]

    def everything(self) -> list[Key]:
        """All services, all routes, and the routers of their namespaces."""
        routes = [route.key for routes in self._routes.values() for route in routes.values()]
        spaces = {*self._families, *self._routes, *self._routers}
        return [*self.keys(), *routes, *map(router_key, sorted(spaces))]

    def snapshot(self, key: Key) -> Observed | None:
        """Everything that a reconcile of this service depends on; None if the service is gone."""
        family = self._families.get(key.namespace, {}).get(key.name)
        if family is None or family.parent is None:
            return None
        return Observed(
            parent=family.parent,
            namespace_labels=self._namespaces.get(key.namespace, {}),
            profiles=tuple(self._profiles.values()),
            children=tuple(family.children.values()),
            pods=tuple(family.pods.values()),
            name_holders=self._name_holders(key.namespace, model_name(family.parent)),
            pod_monitors=POD_MONITOR_CRD in self._definitions,
            router=self.listed(key),
            gateway=GatewayState(
                kinds=self.has_gateway_kinds,
                status=self._gateways.get(_gateway(family.parent) or ("", "")),
            ),
            workers=tuple(family.workers.values()),
            fetchers=tuple(family.fetchers.values()),
            prefetchers=tuple(family.prefetchers.values()),
            leader_worker_sets=LEADER_WORKER_SET_CRD in self._definitions,
            siblings=self._siblings(key) if self._has_quota else (),
        )

    @property
    def has_gateway_kinds(self) -> bool:
        """Whether the cluster has the kinds that attach a service to a Gateway."""
        return self._definitions.issuperset(GATEWAY_CRDS)

    def has_kind(self, kind: str) -> bool:
        """Whether the cluster has this kind, which it may lack."""
        if kind == names.LEADER_WORKER_SET:
            return LEADER_WORKER_SET_CRD in self._definitions
        return self.has_gateway_kinds

    def router(self, namespace: str) -> ObservedRouter:
        """Everything that a look at the router of this namespace depends on."""
        known = self._routers.get(namespace, _Router())
        return ObservedRouter(
            namespace=namespace,
            namespace_labels=self._namespaces.get(namespace, {}),
            profiles=tuple(self._profiles.values()),
            children=tuple(known.children.values()),
            services=tuple(parent for parent in self._parents(namespace) if not parent.deleting),
            routes=tuple(self._routes.get(namespace, {}).values()),
            pod_monitors=POD_MONITOR_CRD in self._definitions,
            listed_routes=known.routes,
        )

    def route(self, key: Key) -> Parent | None:
        """The InferenceRoute, if there is one."""
        return self._routes.get(key.namespace, {}).get(key.name)

    def listed(self, key: Key) -> Listed:
        """Return the service's entry in its namespace's router."""
        known = self._routers.get(key.namespace, _Router())
        return Listed(
            known.available,
            known.answers,
            known.trouble,
            known.entries.get(key.name),
            known.keys.get(key.name),
        )

    def pods(self, key: Key) -> list[Pod]:
        """The engine pods of a service, without those that have ended."""
        family = self._families.get(key.namespace, {}).get(key.name)
        return [pod for pod in family.pods.values() if not pod.ended] if family else []

    def _name_holders(self, namespace: str, name: str) -> dict[str, Key]:
        claims = [
            parent
            for parent in self._claims.get((namespace, name), {}).values()
            if not parent.deleting
        ]
        if not claims:
            return {}
        oldest = min(claims, key=lambda parent: (parent.created, parent.key))
        return {name: oldest.key}

    def _note_claim(self, parent: Parent | None, before: Parent | None) -> set[Key]:
        """Note which name the service asks for now; all services that ask for this name or the former one."""
        claimed = [
            (entry.key.namespace, model_name(entry))
            for entry in (before, parent)
            if entry is not None
        ]
        rivals = {key for claim in claimed for key in self._claims.get(claim, {})}
        if before is not None:
            claims = self._claims[claimed[0]]
            del claims[before.key]
            if not claims:
                del self._claims[claimed[0]]
        if parent is not None:
            self._claims.setdefault(claimed[-1], {})[parent.key] = parent
        return rivals

    def _parents(self, namespace: str) -> list[Parent]:
        families = self._families.get(namespace, {}).values()
        return [family.parent for family in families if family.parent is not None]

    def _siblings(self, key: Key) -> tuple[Parent, ...]:
        """The other services of the namespace that stay."""
        return tuple(
            parent
            for parent in self._parents(key.namespace)
            if parent.key != key and not parent.deleting
        )

    @property
    def _has_quota(self) -> bool:
        """Whether what one service asks for may concern the others of its namespace."""
        return any(_quota(profile) is not None for profile in self._profiles.values())

    def _note_seen(self, kind: str, uid: str, *, gone: bool) -> None:
        seen = self._seen.setdefault(kind, set())
        if gone:
            seen.discard(uid)
        else:
            seen.add(uid)

    def _family(self, namespace: str, name: str) -> _Family:
        return self._families.setdefault(namespace, {}).setdefault(name, _Family())

    def _forget_if_empty(self, namespace: str, name: str) -> None:
        family = self._family(namespace, name)
        if family == _Family():
            del self._families[namespace][name]
            if not self._families[namespace]:
                del self._families[namespace]

    def _feed_parent(self, parent: Parent, *, gone: bool) -> Iterable[Key]:
        family = self._family(parent.key.namespace, parent.key.name)
        before = family.parent
        if gone and before is not None and before.uid != parent.uid:
            return ()
        if not gone and before == parent:
            return ()
        family.parent = None if gone else parent
        rivals = self._note_claim(family.parent, before)
        self._forget_if_empty(parent.key.namespace, parent.key.name)
        routes = [route.key for route in self._routes.get(parent.key.namespace, {}).values()]
        others: set[Key] = set()
        if self._has_quota and (gone or before is None or _asks(before) != _asks(parent)):
            others = {other.key for other in self._siblings(parent.key)}
        if not gone and before is not None and _claim(before) == _claim(parent):
            return {parent.key, *others, *routes}
        return {parent.key, *others, *rivals, *routes}

    def _feed_route(self, route: Parent, *, gone: bool) -> Iterable[Key]:
        routes = self._routes.setdefault(route.key.namespace, {})
        before = routes.get(route.key.name)
        if (gone and before is not None and before.uid != route.uid) or (
            not gone and before == route
        ):
            return ()
        routes.pop(route.key.name, None)
        if not gone:
            routes[route.key.name] = route
        rivals = [rival.key for rival in routes.values()]
        if not routes:
            del self._routes[route.key.namespace]
        if not gone and before is not None and before.spec == route.spec:
            return (route.key,)
        return {route.key, *rivals, router_key(route.key.namespace)}

    def _feed_profile(self, profile: Profile, *, gone: bool) -> Iterable[Key]:
        if self._profiles.get(profile.name) == profile and not gone:
            return ()
        self._profiles.pop(profile.name, None)
        if not gone:
            self._profiles[profile.name] = profile
        return self.everything()

    def _feed_namespace(self, body: Body, *, gone: bool) -> Iterable[Key]:
        name, labels = body["metadata"]["name"], dict(body["metadata"].get("labels") or {})
        if gone:
            self._namespaces.pop(name, None)
            return ()
        if self._namespaces.get(name) == labels:
            return ()
        self._namespaces[name] = labels
        return [parent.key for parent in self._parents(name)]

    def _feed_definition(self, body: Body, *, gone: bool) -> Iterable[Key]:
        name = body["metadata"]["name"]
        if name not in _OPTIONAL:
            return ()
        before = name in self._definitions
        exists = not gone and (name == POD_MONITOR_CRD or _serves_v1(body))
        self._definitions.discard(name)
        if exists:
            self._definitions.add(name)
        return self.everything() if exists != before else ()

    def _feed_gateway(self, body: Body, *, gone: bool) -> Iterable[Key]:
        key = body["metadata"]["namespace"], body["metadata"]["name"]
        before = self._gateways.pop(key, None)
        if not gone:
            self._gateways[key] = dict(body.get("status") or {})
        if before == self._gateways.get(key):
            return ()
        return [
            parent.key
            for families in self._families.values()
            for family in families.values()
            if (parent := family.parent) is not None and _gateway(parent) == key
        ]

    def _feed_pod(self, pod: Pod, *, gone: bool) -> Iterable[Key]:
        if not pod.service:
            return ()
        family = self._family(pod.namespace, pod.service)
        pods = family.workers if pod.worker else family.pods
        if not gone and pods.get(pod.name) == pod:
            return ()
        pods.pop(pod.name, None)
        if not gone:
            pods[pod.name] = pod
        self._forget_if_empty(pod.namespace, pod.service)
        return (Key(pod.namespace, pod.service),)

    def _feed_fetcher(self, fetcher: Fetcher, *, prefetches: bool, gone: bool) -> Iterable[Key]:
        family = self._family(fetcher.namespace, fetcher.service)
        fetchers = family.prefetchers if prefetches else family.fetchers
        if not gone and fetchers.get(fetcher.name) == fetcher:
            return ()
        fetchers.pop(fetcher.name, None)
        if not gone:
            fetchers[fetcher.name] = fetcher
        self._forget_if_empty(fetcher.namespace, fetcher.service)
        return (Key(fetcher.namespace, fetcher.service),)

    def _feed_child(self, child: Child, *, gone: bool) -> Iterable[Key]:
        if not child.service:
            return self._feed_router_child(child, gone=gone) if _is_of_router(child) else ()
        children = self._family(child.ref.namespace, child.service).children
        known = children.get(child.ref)
        if (not gone and known == child) or (gone and known is not None and known.uid != child.uid):
            return ()
        children.pop(child.ref, None)
        if not gone:
            children[child.ref] = child
        self._forget_if_empty(child.ref.namespace, child.service)
        return (Key(child.ref.namespace, child.service),)

    def _feed_router_child(self, child: Child, *, gone: bool) -> Iterable[Key]:
        space = child.ref.namespace
        known = self._routers.setdefault(space, _Router())
        before = known.children.get(child.ref)
        if (not gone and before == child) or (gone and before and before.uid != child.uid):
            return ()
        known.children.pop(child.ref, None)
        if not gone:
            known.children[child.ref] = child
        if not known.children:
            del self._routers[space]
        concerned = self._note_router(known, child, gone=gone)
        return {router_key(space), *concerned}

    def _note_router(self, known: _Router, child: Child, *, gone: bool) -> Iterable[Key]:
        """Note what the router does now; the keys of the services for which it does something else."""
        space = child.ref.namespace
        if child.ref.kind == "ConfigMap":
            data = {} if gone else child.manifest.get("data", {})
            text = data.get(contract.ROUTER_CONFIG_KEY, "")
            before, known.entries = known.entries, router.entries(text, part="services")
            changed = {
                name
                for name in {*before, *known.entries}
                if before.get(name) != known.entries.get(name)
            }
            known.routes = router.entries(text, part="routes")
            routes = self._routes.get(space, {}).values()
            concerned = [parent for parent in self._parents(space) if parent.key.name in changed]
            return [parent.key for parent in (*concerned, *routes)]
        if child.ref.kind == "Deployment":
            was = known.available, known.answers, known.trouble
            status = {} if gone else child.status
            known.available, known.answers = router.readiness(child.manifest, status)
            known.trouble = None if gone else child.trouble
            known.keys = {} if gone else router.keys(child.manifest)
            if was != (known.available, known.answers, known.trouble):
                routes = self._routes.get(space, {}).values()
                return [parent.key for parent in (*self._parents(space), *routes)]
        return ()


def _is_of_router(child: Child) -> bool:
    labels = child.manifest["metadata"].get("labels", {})
    return bool(labels.get(names.COMPONENT_LABEL) == names.ROUTER_COMPONENT)


def _serves_v1(body: Body) -> bool:
    versions = body.get("spec", {}).get("versions", [])
    return any(version["name"] == "v1" and version.get("served") for version in versions)


def _gateway(parent: Parent) -> tuple[str, str] | None:
    """Namespace and name of the Gateway that the service asks for, if it does."""
    routing = parent.spec.get("routing")
    named = routing.get("gateway") if isinstance(routing, Mapping) else None
    if not isinstance(named, Mapping) or "name" not in named:
        return None
    return str(named.get("namespace", parent.key.namespace)), str(named["name"])


def model_name(parent: Parent) -> str:
    """The name that clients use for this service."""
    model = parent.spec.get("model")
    return (model.get("name") if isinstance(model, Mapping) else None) or parent.key.name


def _quota(profile: Profile) -> object:
    limits = profile.spec.get("limits")
    return limits.get("maxAcceleratorsPerNamespace") if isinstance(limits, Mapping) else None


def _asks(parent: Parent) -> tuple[object, ...]:
    """Return all that the shares of a quota depend on."""
    return parent.packed_spec, parent.created, parent.deleting


def _claim(parent: Parent) -> tuple[str, str, bool]:
    """Return the order in which services claim a model name."""
    return model_name(parent), parent.created, parent.deleting
