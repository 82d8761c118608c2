"""Revisions: what a pod must be restarted for, hashed; which of them run, and which one takes the traffic.

The Service's selector is the record of which revision is active, or, where it selects the router, the weights in the
router's configuration are; so nothing has to be remembered elsewhere.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Final

from slipstream_operator import names
from slipstream_operator.core.observed import Observed
from slipstream_operator.core.resolved import Resolved, Revisioned

ENGINE_KEY: Final = "engine.json"
TEMPLATE_KEY: Final = "template.json"
DEVICES_KEY: Final = "devices.json"
"""Only of revisions whose pods claim devices."""


@dataclasses.dataclass(frozen=True)
class Revision:
    """One revision that shall exist, with the replicas that it shall have."""

    hash: str
    replicas: int


@dataclasses.dataclass(frozen=True)
class Rollout:
    """The revisions that shall exist; `active` takes the traffic, `wanted` is what the object asks for."""

    active: str
    wanted: str
    revisions: tuple[Revision, ...]
    by_router: bool = False
    """Whether the Service selects the router; else it selects `active`."""
    routed: str | None = None
    """The revision that the router sends requests to; None if it has none to send."""


def identity(revisioned: Revisioned) -> str:
    """Eight hexadecimal digits over everything that a pod must be restarted for.

    Inputs are hashed, not the rendered template: a newer operator that renders differently restarts nothing. What is
    None is left out, so that a field which a newer operator adds does not either.
    """
    given = {name: part for name, part in vars(revisioned).items() if part is not None}
    text = json.dumps(given, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def roll_out(
    observed: Observed, resolved: Resolved, *, replicas: int, held: bool = False
) -> Rollout:
    """Start what is wanted, keep what serves until that has proved itself, then move the traffic.

    A new front (router or engines) takes the traffic only when it can serve it, and what the former one sends requests
    to stays until nothing comes from there any more. While `held`, a revision that has not started does not.
    """
    wanted = identity(resolved.revisioned)
    ready = _ready(observed)
    routes = resolved.routing.mode == "Router"
    by_router = _by_router(observed)
    listed = _existing(observed, observed.router.active)
    serving = _serving(observed, ready) or wanted
    target = _target(observed, resolved, serving, wanted, ready=ready, replicas=replicas)
    if (
        by_router is None
        or by_router == routes
        or _can_move(observed, target, wanted, routes=routes)
    ):
        front, active = routes, target
    else:
        front, active = by_router, serving
    kept = {active, target, wanted}
    routed = target if routes else listed or (serving if by_router else None)
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


def _started(observed: Observed, revision: str) -> bool:
    """Whether pods of the revision were asked for already."""
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
) -> str:
    """The revision that shall take the traffic now."""
    if resolved.recreate:
        left = {pod.revision for pod in (*observed.pods, *observed.workers) if not pod.ended}
        return serving if serving in left else wanted
    proved = ready.get(wanted, 0) >= max(replicas, 1) or replicas == 0
    return wanted if proved or not ready.get(serving) else serving


def _can_move(observed: Observed, target: str, wanted: str, *, routes: bool) -> bool:
    """Whether the other front can serve what comes: engines that have proved themselves, a router that knows them."""
    if target != wanted:
        return False
    return not routes or (
        observed.router.available and _existing(observed, observed.router.active) == wanted
    )


def stored(observed: Observed, revision: str) -> Mapping[str, str] | None:
    """Return the texts that this revision was made with, under ENGINE_KEY and TEMPLATE_KEY, if its ConfigMap exists."""
    child = observed.child("ConfigMap", names.revision_name(observed.parent.key.name, revision))
    if child is None or child.controller != observed.parent.uid:
        return None
    data: Mapping[str, str] = child.manifest.get("data", {})
    return data if TEMPLATE_KEY in data else None


def nodes(data: Mapping[str, str]) -> int:
    """Pods of one replica of the revision that was made with these texts."""
    found: int = json.loads(data[ENGINE_KEY]).get("nodes", 1)
    return found


def _by_router(observed: Observed) -> bool | None:
    """Whether the Service selects the router; None if there is no Service of ours."""
    service = observed.child("Service", observed.parent.key.name)
    if service is None or service.controller != observed.parent.uid:
        return None
    selector = service.manifest["spec"].get("selector", {})
    return bool(selector.get(names.COMPONENT_LABEL) == names.ROUTER_COMPONENT)


def _serving(observed: Observed, ready: Mapping[str, int]) -> str | None:
    """By the Service, or by the router behind it; if neither tells, the revision with most ready pods."""
    recorded = observed.router.active
    if _by_router(observed) is False:
        service = observed.child("Service", observed.parent.key.name)
        assert service is not None
        revision = service.manifest["spec"].get("selector", {}).get(names.REVISION_LABEL)
        recorded = names.revision_name(observed.parent.key.name, str(revision))
    if found := _existing(observed, recorded):
        return found
    return max(sorted(ready), key=lambda revision: ready[revision], default=None)


def _existing(observed: Observed, name: str | None) -> str | None:
    """Hash of the revision of this name, if it has a workload."""
    if name is None:
        return None
    for kind in names.WORKLOADS:
        workload = observed.child(kind, name)
        if workload is not None:
            return workload.revision
    return None


def _ready(observed: Observed) -> dict[str, int]:
    ready: dict[str, int] = {}
    for pod in observed.live_pods:
        if pod.ready and not pod.deleting:
            ready[pod.revision] = ready.get(pod.revision, 0) + 1
    return ready
