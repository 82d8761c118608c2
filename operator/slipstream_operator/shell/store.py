"""Store of all watched objects as frozen projections, so that a reconcile reads its snapshot without an API call.

kopf's own indices take quadratic time at start. Each watch event returns the keys that it affects.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from slipstream_operator import names
from slipstream_operator.core import ownership, pod_failures
from slipstream_operator.core.observed import (
    Child,
    Fetcher,
    GatewayState,
    Key,
    Manifest,
    Observed,
    ObservedBuild,
    ObservedPod,
    ObservedRouter,
    Parent,
    Profile,
    RouterState,
    router_key,
)
from slipstream_operator.names import Reason
from slipstream_operator.shell import model_names, projections
from slipstream_operator.shell.build_objects import BuildIndex
from slipstream_operator.shell.build_users import BuildUsers
from slipstream_operator.shell.definitions import Definitions
from slipstream_operator.shell.model_names import ModelNames
from slipstream_operator.shell.packing import Packer
from slipstream_operator.shell.projections import Body
from slipstream_operator.shell.router_objects import Change, RouterObjects, is_of_router
from slipstream_operator.shell.service_objects import ServiceIndex

_FETCHING: Final = (names.FETCH_LABEL, names.PREFETCH_LABEL)
_UNREADABLE: Final = (Reason.ENGINE_FAILED, Reason.FETCH_FAILED)
_SERVING: Final = (names.SERVICE_LABEL, names.WORKER_LABEL, names.PICKER_LABEL)


class Store:
    """Objects of the whole cluster. Watches and polls write it; the loops read it."""

    def __init__(self) -> None:
        self._packer = Packer()
        self._services = ServiceIndex()
        self._model_names = ModelNames()
        self._routers: dict[str, RouterObjects] = {}
        self._routes: dict[str, dict[str, Parent]] = {}
        self._builds = BuildIndex()
        self._build_users = BuildUsers()
        self._profiles: dict[str, Profile] = {}
        self._namespaces: dict[str, Mapping[str, str]] = {}
        """Namespace -> labels."""
        self._definitions = Definitions()
        self._gateways: dict[tuple[str, str], Manifest] = {}
        """Namespace and name -> status."""
        self._seen: dict[str, set[str]] = {}
        """Kind -> uids of all its objects that were reported."""

    def feed(self, kind: str, body: Body, *, gone: bool) -> Iterable[Key]:
        """Store one watch event; return the keys to reconcile because of it."""
        self._note_seen(kind, body["metadata"]["uid"], gone=gone)
        match kind:
            case names.INFERENCE_SERVICE:
                return self._feed_parent(projections.parent(body, packer=self._packer), gone=gone)
            case names.INFERENCE_ROUTE:
                route = projections.parent(body, kind=kind, packer=self._packer)
                return self._feed_route(route, gone=gone)
            case names.MODEL_BUILD:
                build = projections.parent(body, kind=kind, packer=self._packer)
                return self._feed_build(build, gone=gone)
            case names.SERVING_PROFILE:
                return self._feed_profile(projections.profile(body), gone=gone)
            case names.NAMESPACE:
                return self._feed_namespace(body, gone=gone)
            case names.CUSTOM_RESOURCE_DEFINITION:
                changed = self._definitions.feed(body, gone=gone)
                return self.everything() if changed else ()
            case names.GATEWAY:
                return self._feed_gateway(body, gone=gone)
            case "Pod":
                return {*self._feed_router_pod(body, gone=gone), *self._feed_pods(body, gone=gone)}
            case _:
                child = projections.child(kind, body, packer=self._packer)
                labels = body["metadata"].get("labels") or {}
                build_name = labels.get(names.BUILD_LABEL)
                if build_name and names.SERVICE_LABEL not in labels:
                    return self._feed_child_of_build(build_name, child, gone=gone)
                return self._feed_child(child, gone=gone)

    def has_seen(self, kind: str, uids: set[str]) -> bool:
        """Whether all objects with these uids were reported."""
        return uids <= self._seen.get(kind, set())

    def keys(self) -> list[Key]:
        """Return the keys of all services."""
        return [parent.key for parent in self._services.all_parents()]

    def everything(self) -> list[Key]:
        """Return the keys of all services, routes and builds, and of the routers of their namespaces."""
        routes = [route.key for routes in self._routes.values() for route in routes.values()]
        spaces = {*self._services.namespaces, *self._routes, *self._routers}
        return [*self.keys(), *routes, *self._builds.all_keys(), *map(router_key, sorted(spaces))]

    def snapshot(self, key: Key) -> Observed | None:
        """Return all objects that a reconcile of this service depends on; None if the service is gone."""
        service = self._services.get(key)
        if service is None or service.parent is None:
            return None
        return Observed(
            parent=service.parent,
            namespace_labels=self._namespaces.get(key.namespace, {}),
            profiles=tuple(self._profiles.values()),
            children=tuple(service.children.values()),
            pods=tuple([pod for pod in service.pods.values() if pod.current and not pod.foreign]),
            name_holders=self._model_names.holders(service.parent),
            pod_monitors=self._definitions.has(names.POD_MONITOR),
            router=self.listed(key),
            gateway=GatewayState(
                kinds=self._definitions.has_gateway_kinds,
                status=self._gateways.get(_gateway(service.parent) or ("", "")),
            ),
            workers=tuple(
                [pod for pod in service.workers.values() if pod.current and not pod.foreign]
            ),
            gone=tuple(
                [
                    pod
                    for pod in (*service.pods.values(), *service.workers.values())
                    if not (pod.current or pod.foreign)
                ]
            ),
            fetchers=tuple([one for one in service.fetchers.values() if not one.foreign]),
            prefetchers=tuple([one for one in service.prefetchers.values() if not one.foreign]),
            leader_worker_sets=self._definitions.has(names.LEADER_WORKER_SET),
            siblings=self._services.siblings(key) if self._has_quota else (),
            foreign=service.foreign,
            builds=self._builds.views(key.namespace, self._build_users.named(key)),
        )

    def build(self, key: Key) -> ObservedBuild | None:
        """Return all objects that a reconcile of this ModelBuild depends on; None if it is gone."""
        build = self._builds.get(key)
        if build is None or build.parent is None:
            return None
        return ObservedBuild(
            parent=build.parent,
            namespace_labels=self._namespaces.get(key.namespace, {}),
            profiles=tuple(self._profiles.values()),
            children=tuple(build.children.values()),
            pods=tuple(build.pods.values()),
            complaints=tuple(self._complaints(key)),
        )

    def parent(self, key: Key) -> Parent | None:
        """Return the InferenceService; None if there is none."""
        service = self._services.get(key)
        return None if service is None else service.parent

    def has_kind(self, kind: str) -> bool:
        """Whether the cluster has this polled kind."""
        if kind == names.LEADER_WORKER_SET:
            return self._definitions.has(kind)
        return self._definitions.has_gateway_kinds

    def router(self, namespace: str) -> ObservedRouter:
        """Return all objects that a reconcile of this namespace's router depends on."""
        router = self._routers.get(namespace, RouterObjects())
        parents = self._services.parents(namespace)
        return ObservedRouter(
            namespace=namespace,
            namespace_labels=self._namespaces.get(namespace, {}),
            profiles=tuple(self._profiles.values()),
            children=tuple(router.children.values()),
            services=tuple(parent for parent in parents if not parent.deleting),
            routes=tuple(self._routes.get(namespace, {}).values()),
            pod_monitors=self._definitions.has(names.POD_MONITOR),
            listed_routes=router.routes,
        )

    def route(self, key: Key) -> Parent | None:
        """Return the InferenceRoute; None if there is none."""
        return self._routes.get(key.namespace, {}).get(key.name)

    def listed(self, key: Key) -> RouterState:
        """Return the state of a service or route in its namespace's router."""
        return self._routers.get(key.namespace, RouterObjects()).listed(key)

    def pods(self, key: Key) -> list[ObservedPod]:
        """Return the service's current engine pods."""
        service = self._services.get(key)
        found = service.pods.values() if service else ()
        return [pod for pod in found if pod.current and not pod.foreign]

    @property
    def _has_quota(self) -> bool:
        """Whether a profile limits the services of a namespace together."""
        return any(_quota(profile) is not None for profile in self._profiles.values())

    def _note_seen(self, kind: str, uid: str, *, gone: bool) -> None:
        seen = self._seen.setdefault(kind, set())
        if gone:
            seen.discard(uid)
        else:
            seen.add(uid)

    def _feed_parent(self, parent: Parent, *, gone: bool) -> Iterable[Key]:
        key = parent.key
        service = self._services.of(key.namespace, key.name)
        before = service.parent
        if gone and before is not None and before.uid != parent.uid:
            return ()
        if not gone and before == parent:
            return ()
        service.parent = None if gone else parent
        rivals = self._model_names.update(before, service.parent)
        self._build_users.update(key, service.parent)
        self._services.prune(key.namespace, key.name)
        routes = [route.key for route in self._routes.get(key.namespace, {}).values()]
        siblings: set[Key] = set()
        if self._has_quota and (gone or before is None or _demand(before) != _demand(parent)):
            siblings = {sibling.key for sibling in self._services.siblings(key)}
        same_claim = (
            not gone
            and before is not None
            and model_names.claim(before) == model_names.claim(parent)
        )
        return {key, *siblings, *routes, *(() if same_claim else rivals)}

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

    def _feed_build(self, build: Parent, *, gone: bool) -> Iterable[Key]:
        changed, seen = self._builds.feed(build, gone=gone)
        if not changed:
            return ()
        return [build.key, *(self._build_users.of(build.key) if seen else ())]

    def _complaints(self, build: Key) -> Iterator[tuple[str, str]]:
        """Yield each failure of the engines and downloads of services that name the build."""
        for user in self._build_users.of(build):
            service = self._services.of(user.namespace, user.name)
            pods: list[ObservedPod | Fetcher] = [*service.pods.values(), *service.fetchers.values()]
            for pod in pods:
                if _complains(pod) and not pod.foreign and pod.trouble is not None:
                    yield user.name, pod.trouble[1]

    def _accused(self, service: Key) -> list[Key]:
        """Return the builds that the service names."""
        found = self._build_users.named(service)
        return [Key(service.namespace, name, names.MODEL_BUILD) for name in found]

    def _feed_child_of_build(self, name: str, child: Child, *, gone: bool) -> Iterable[Key]:
        changed = self._builds.feed_child(name, child, gone=gone)
        return (Key(child.ref.namespace, name, names.MODEL_BUILD),) if changed else ()

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
        builds = [key for key in self._builds.all_keys() if key.namespace == name]
        return [*(parent.key for parent in self._services.parents(name)), *builds]

    def _feed_gateway(self, body: Body, *, gone: bool) -> Iterable[Key]:
        name = body["metadata"]["namespace"], body["metadata"]["name"]
        before = self._gateways.pop(name, None)
        if not gone:
            self._gateways[name] = dict(body.get("status") or {})
        if before == self._gateways.get(name):
            return ()
        return [parent.key for parent in self._services.all_parents() if _gateway(parent) == name]

    def _feed_router_pod(self, body: Body, *, gone: bool) -> Iterable[Key]:
        metadata = body["metadata"]
        if not ownership.is_of_router(metadata.get("labels", {})):
            return ()
        space = metadata["namespace"]
        ended = gone or (body.get("status") or {}).get("phase") in pod_failures.ENDED
        foreign = not ended and ownership.is_foreign_router(metadata)
        router = self._routers.setdefault(space, RouterObjects())
        change = router.feed_pod(metadata["name"], foreign=foreign)
        return self._changed_router(space, change)

    def _feed_pods(self, body: Body, *, gone: bool) -> Iterable[Key]:
        labels = body["metadata"].get("labels", {})
        if labels.get(names.BUILD_LABEL) and labels.keys().isdisjoint(_SERVING):
            builder = projections.builder(body)
            changed = self._builds.feed_pod(builder, gone=gone)
            key = Key(builder.namespace, builder.build, names.MODEL_BUILD)
            return (key,) if changed else ()
        if not labels.keys().isdisjoint(_FETCHING) and labels.keys().isdisjoint(_SERVING):
            prefetches = names.PREFETCH_LABEL in labels
            fetcher = projections.fetcher(body)
            return self._feed_fetcher(fetcher, prefetches=prefetches, gone=gone)
        pod = projections.pod(body)
        if names.PICKER_LABEL in labels and not pod.foreign:
            gone = True  # the Deployment of a picker reports its readiness
        return self._feed_pod(pod, gone=gone)

    def _feed_pod(self, pod: ObservedPod, *, gone: bool) -> Iterable[Key]:
        if not pod.service:
            return ()
        service = self._services.of(pod.namespace, pod.service)
        pods = service.workers if pod.worker else service.pods
        if pods.get(pod.name) == (None if gone else pod):
            self._services.prune(pod.namespace, pod.service)
            return ()
        before = pods.pop(pod.name, None)
        if not gone:
            pods[pod.name] = pod
        self._services.prune(pod.namespace, pod.service)
        key = Key(pod.namespace, pod.service)
        return [key, *(self._accused(key) if _complains(before, pod) else ())]

    def _feed_fetcher(self, fetcher: Fetcher, *, prefetches: bool, gone: bool) -> Iterable[Key]:
        service = self._services.of(fetcher.namespace, fetcher.service)
        fetchers = service.prefetchers if prefetches else service.fetchers
        if not gone and fetchers.get(fetcher.name) == fetcher:
            return ()
        before = fetchers.pop(fetcher.name, None)
        if not gone:
            fetchers[fetcher.name] = fetcher
        self._services.prune(fetcher.namespace, fetcher.service)
        key = Key(fetcher.namespace, fetcher.service)
        return [key, *(self._accused(key) if _complains(before, fetcher) else ())]

    def _feed_child(self, child: Child, *, gone: bool) -> Iterable[Key]:
        if not child.service:
            return self._feed_router_child(child, gone=gone) if is_of_router(child) else ()
        children = self._services.of(child.ref.namespace, child.service).children
        known = children.get(child.ref)
        if (not gone and known == child) or (gone and known is not None and known.uid != child.uid):
            return ()
        children.pop(child.ref, None)
        if not gone:
            children[child.ref] = child
        self._services.prune(child.ref.namespace, child.service)
        return (Key(child.ref.namespace, child.service),)

    def _feed_router_child(self, child: Child, *, gone: bool) -> Iterable[Key]:
        space = child.ref.namespace
        router = self._routers.setdefault(space, RouterObjects())
        return self._changed_router(space, router.feed(child, gone=gone))

    def _changed_router(self, space: str, change: Change | None) -> Iterable[Key]:
        """Return the keys to reconcile because of a change of a namespace's router."""
        if self._routers[space] == RouterObjects():
            del self._routers[space]
        if change is None:
            return ()
        services = [
            parent.key
            for parent in self._services.parents(space)
            if change.readiness or parent.key.name in change.services
        ]
        routes: list[Key] = []
        if change.readiness or change.routes:
            routes = [route.key for route in self._routes.get(space, {}).values()]
        return {router_key(space), *services, *routes}


def _complains(*pods: ObservedPod | Fetcher | None) -> bool:
    """Whether one of the pods failed in a way that a missing artifact can cause."""
    return any(pod is not None and pod.trouble and pod.trouble[0] in _UNREADABLE for pod in pods)


def _gateway(parent: Parent) -> tuple[str, str] | None:
    """Return namespace and name of the Gateway that the service names; None if it names none."""
    routing = parent.spec.get("routing")
    named = routing.get("gateway") if isinstance(routing, Mapping) else None
    if not isinstance(named, Mapping) or "name" not in named:
        return None
    return str(named.get("namespace", parent.key.namespace)), str(named["name"])


def _quota(profile: Profile) -> object:
    limits = profile.spec.get("limits")
    return limits.get("maxAcceleratorsPerNamespace") if isinstance(limits, Mapping) else None


def _demand(parent: Parent) -> tuple[object, ...]:
    """Return the fields of a service on which the shares of a quota depend."""
    return parent.packed_spec, parent.created, parent.deleting
