"""Revisions of the engines: the hash of the settings that require a restart, and the rollout from one to the next.

The active revision is recorded in the selector of the Service or, if the Service selects the router, in the weights of
the router's configuration.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Final

from slipstream_operator import names
from slipstream_operator.api import units
from slipstream_operator.core.comparison.collection import Comparison
from slipstream_operator.core.observed import Child, Observed, ObservedPod
from slipstream_operator.core.resolved import Resolved, Revisioned

ENGINE_KEY: Final = "engine.json"
TEMPLATE_KEY: Final = "template.json"
DEVICES_KEY: Final = "devices.json"
"""Key that only revisions whose pods claim devices have."""
RELEASE_SECONDS: Final = 60.0
"""Seconds after its grace period for which a pod that is being deleted holds its devices. A kubelet that answers ends
it within seconds. The kubelet of a node that is gone never does."""


@dataclasses.dataclass(frozen=True)
class Revision:
    """Desired revision with its desired replicas."""

    hash: str
    replicas: int


@dataclasses.dataclass(frozen=True)
class Canary:
    """Revisions of a rollout in steps, and the shares of the requests that they get."""

    stable: str
    revision: str
    """Revision that is compared with the stable one, or was rejected."""
    weight: int
    """Percent of the requests that it gets; the stable revision gets the remainder."""
    stable_replicas: int
    replicas: int
    rejected: bool = False
    since: float | None = None
    """Time since which it gets this share while it is compared, in seconds since the epoch; None if it is not."""

    @property
    def comparison(self) -> Comparison | None:
        """Return the comparison of both revisions; None if they are not compared."""
        if self.since is None:
            return None
        weights = {self.stable: 100 - self.weight, self.revision: self.weight}
        return Comparison(self.stable, self.revision, weights, since=self.since)


@dataclasses.dataclass(frozen=True)
class Rollout:
    """Desired revisions. `active` gets the requests, `wanted` is the revision of the current spec."""

    active: str
    wanted: str
    revisions: tuple[Revision, ...]
    by_router: bool = False
    """Whether the Service selects the router. Otherwise it selects `active`."""
    routed: str | None = None
    """Revision that the router sends requests to; None if the router gets no requests."""
    canary: Canary | None = None
    """Revisions of a rollout in steps; None without one."""

    def weight(self, revision: str) -> int:
        """Return the percent of the router's requests that a revision gets."""
        canary = self.canary
        if canary is None:
            return 100 if revision == self.routed else 0
        return {canary.stable: 100 - canary.weight, canary.revision: canary.weight}[revision]

    @property
    def rejected(self) -> bool:
        """Whether the revision of the spec was rejected, so that another one stays."""
        return self.canary is not None and self.canary.rejected


def identity(revisioned: Revisioned) -> str:
    """Return eight hexadecimal digits of a hash over the settings that require a restart.

    The hash is over inputs, not over the rendered template, so a newer operator restarts nothing. Fields that are None
    are left out, so a new field of a newer operator restarts nothing either.
    """
    given = {name: part for name, part in vars(revisioned).items() if part is not None}
    text = json.dumps(given, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def roll_out(
    observed: Observed,
    resolved: Resolved,
    *,
    replicas: int,
    now: float,
    held: bool = False,
    canary: Canary | None = None,
) -> Rollout:
    """Return the rollout: start the wanted revision, keep the serving one until it is ready, then move the traffic.

    The Service switches between router and engines only when the new target can serve requests. The revision behind
    the former target stays until it gets no requests. While `held`, a revision that has not started stays stopped.
    While a build of the spec is not ready, the serving revision stays. `now` is in seconds since the epoch. During a
    rollout in steps, `canary` has the replicas and shares of both revisions.
    """
    if canary is not None:
        return _shared(observed, canary, held=held)
    wanted = wanted_revision(observed, resolved)
    assert wanted is not None
    ready = ready_pods(observed)
    routes = resolved.routing.mode == "Router"
    selected = by_router(observed)
    listed = _existing(observed, observed.router.active)
    serving = _serving(observed, ready) or wanted
    target = _target(observed, resolved, serving, wanted, ready=ready, replicas=replicas, now=now)
    if selected is None or selected == routes or _can_move(observed, target, wanted, routes=routes):
        front, active = routes, target
    else:
        front, active = selected, serving
    kept = {active, target, wanted}
    routed = target if routes else listed or (serving if selected else None)
    kept |= {serving} if routes else {routed} if routed else set()

    share = resolved.share
    room = share is None or replicas * len(kept) <= share.replicas + share.surge
    fetches = held and not _started(observed, wanted)

    def count(revision: str) -> int:
        if fetches:
            return 0 if revision == wanted else replicas
        stops = resolved.recreate and (revision != wanted or target != wanted)
        waits = revision == wanted != target and not room
        return 0 if stops or waits else replicas

    order = sorted(kept, key=lambda revision: (revision == wanted, revision != active, revision))
    return Rollout(
        active,
        wanted,
        tuple(Revision(revision, count(revision)) for revision in order),
        by_router=front,
        routed=routed,
    )


def _shared(observed: Observed, canary: Canary, *, held: bool) -> Rollout:
    """Return the rollout in steps. The canary starts no pods while it is `held`."""
    stable = Revision(canary.stable, canary.stable_replicas)
    if canary.rejected:
        return Rollout(
            canary.stable,
            canary.stable,
            (stable,),
            by_router=True,
            routed=canary.stable,
            canary=canary,
        )
    waits = held and not _started(observed, canary.revision)
    active = canary.revision if canary.weight == 100 else canary.stable
    return Rollout(
        active,
        canary.revision,
        (stable, Revision(canary.revision, 0 if waits else canary.replicas)),
        by_router=True,
        routed=active,
        canary=canary,
    )


def wanted_revision(observed: Observed, resolved: Resolved) -> str | None:
    """Return the revision to run; None while a build of the spec is not ready and no revision exists."""
    if not resolved.waits_for_build:
        return identity(resolved.revisioned)
    return serving_revision(observed) or _last(observed)


def _last(observed: Observed) -> str | None:
    """Return the revision that has no workload now but can be restored: the recorded one, or else the newest."""
    kept = {
        child.ref.name: child
        for child in observed.children
        if child.revision is not None and stored(observed, child.revision) is not None
    }
    if (recorded := kept.get(_recorded(observed) or "")) is not None:
        return recorded.revision
    newest = max(kept.values(), key=_created, default=None)
    return newest.revision if newest is not None else None


def _created(child: Child) -> tuple[str, str]:
    return child.manifest["metadata"].get("creationTimestamp", ""), child.ref.name


def _started(observed: Observed, revision: str) -> bool:
    """Whether pods of the revision have been requested."""
    return any(
        child.revision == revision and child.manifest["spec"].get("replicas", 0) > 0
        for child in observed.children
        if child.ref.kind in names.WORKLOADS and child.controller == observed.parent.uid
    )


def _target(
    observed: Observed,
    resolved: Resolved,
    serving: str,
    wanted: str,
    *,
    ready: Mapping[str, int],
    replicas: int,
    now: float,
) -> str:
    """Return the revision that gets the requests from now on."""
    if resolved.recreate:
        leaving = [pod for pod in observed.gone if (_released_at(pod) or now) > now]
        left = {pod.revision for pod in (*observed.pods, *observed.workers, *leaving)}
        return serving if serving in left else wanted
    proved = ready.get(wanted, 0) >= max(replicas, 1) or replicas == 0
    return wanted if proved or not ready.get(serving) else serving


def released_at(observed: Observed) -> float | None:
    """Return when the next pod that is being deleted counts as gone, in seconds since the epoch; None if none is."""
    return min((at for pod in observed.gone if (at := _released_at(pod))), default=None)


def _released_at(pod: ObservedPod) -> float | None:
    """Return until when the pod holds its devices; None if it has ended."""
    if pod.ended or pod.delete_by is None:
        return None
    return units.moment(pod.delete_by) + RELEASE_SECONDS


def _can_move(observed: Observed, target: str, wanted: str, *, routes: bool) -> bool:
    """Whether the new target of the Service can serve requests: ready engines, and a router that has them."""
    if target != wanted:
        return False
    return not routes or (
        observed.router.available and _existing(observed, observed.router.active) == wanted
    )


def stored(observed: Observed, revision: str) -> Mapping[str, str] | None:
    """Return the texts of the revision, under ENGINE_KEY and TEMPLATE_KEY; None without its ConfigMap."""
    child = observed.child("ConfigMap", names.revision_name(observed.parent.key.name, revision))
    if child is None or child.controller != observed.parent.uid:
        return None
    data: Mapping[str, str] = child.manifest.get("data", {})
    return data if _is_readable(data) else None


def _is_readable(data: Mapping[str, str]) -> bool:
    """Whether the texts have the form in which they were written, and not that of an edit by hand."""
    try:
        engine, template = json.loads(data[ENGINE_KEY]), json.loads(data[TEMPLATE_KEY])
        devices = json.loads(data.get(DEVICES_KEY, "{}"))
    except (ValueError, KeyError, RecursionError):
        return False
    found = isinstance(template, dict) and isinstance(devices, dict) and isinstance(engine, dict)
    return found and type(engine.get("nodes", 1)) is int


def nodes(data: Mapping[str, str]) -> int:
    """Return the pods of one replica, from the texts of a revision."""
    found: int = json.loads(data[ENGINE_KEY]).get("nodes", 1)
    return found


def certified(data: Mapping[str, str]) -> bool:
    """Whether the engines of a revision serve with TLS, from its texts."""
    return "certificate" in json.loads(data[ENGINE_KEY])


def has_own_token(observed: Observed, revision: str) -> bool:
    """Whether engines of the revision get a token of their service alone, as all do that don't mount the router's."""
    data = stored(observed, revision)
    return data is None or names.ROUTER_TOKEN not in data[TEMPLATE_KEY]


def by_router(observed: Observed) -> bool | None:
    """Whether the Service selects the router; None if we have no Service."""
    service = observed.child("Service", observed.parent.key.name)
    if service is None or service.controller != observed.parent.uid:
        return None
    selector = service.manifest["spec"].get("selector", {})
    return bool(selector.get(names.COMPONENT_LABEL) == names.ROUTER_COMPONENT)


def serving_revision(observed: Observed) -> str | None:
    """Return the revision that serves the requests; None if no revision exists."""
    return _serving(observed, ready_pods(observed))


def _serving(observed: Observed, ready: Mapping[str, int]) -> str | None:
    """Return the serving revision: by the Service or its router, or else the revision with most ready pods."""
    if found := _existing(observed, _recorded(observed)):
        return found
    return max(sorted(ready), key=lambda revision: ready[revision], default=None)


def sole(observed: Observed) -> str | None:
    """Return the only revision with a weight in the router's configuration; None if there is none, or several."""
    entry = observed.router.entry
    weighted = [each for each in entry["revisions"] if each["weight"]] if entry else []
    return _existing(observed, weighted[0]["name"]) if len(weighted) == 1 else None


def _recorded(observed: Observed) -> str | None:
    """Return the name of the revision that gets the requests, from the Service or its router."""
    if by_router(observed) is not False:
        return observed.router.active
    service = observed.child("Service", observed.parent.key.name)
    assert service is not None
    revision = service.manifest["spec"].get("selector", {}).get(names.REVISION_LABEL)
    return names.revision_name(observed.parent.key.name, str(revision))


def _existing(observed: Observed, name: str | None) -> str | None:
    """Return the hash of the revision with this name; None if it has no workload."""
    if name is None:
        return None
    for kind in names.WORKLOADS:
        workload = observed.child(kind, name)
        if workload is not None:
            return workload.revision
    return None


def ready_pods(observed: Observed) -> dict[str, int]:
    """Return the number of ready pods of each revision that has any."""
    ready: dict[str, int] = {}
    for pod in observed.pods:
        if pod.ready:
            ready[pod.revision] = ready.get(pod.revision, 0) + 1
    return ready
