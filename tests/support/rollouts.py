"""Revisions, and clusters that run them."""

from collections.abc import Callable
from typing import Any

from slipstream_operator.core import revisions
from slipstream_operator.core.observed import Child, Observed, ObservedPod, RouterState
from slipstream_operator.core.revisions import Revision, Rollout
from tests.support import given

DIRECT: dict[str, Any] = {"routing": {"mode": "Direct"}}

OLD: dict[str, Any] = {"model": {"uri": "hf://org/old"}, **DIRECT}

NEW: dict[str, Any] = {"model": {"uri": "hf://org/new"}, **DIRECT}

A, B = given.identity(OLD), given.identity(NEW)


def cluster(
    spec: dict[str, Any],
    *,
    serving: dict[str, Any] | None = OLD,
    starting: dict[str, Any] | None = None,
    pods: tuple[ObservedPod, ...] = (),
    without: Callable[[Child], bool] = lambda _: False,
    router: RouterState | None = None,
) -> Observed:
    """A cluster in which the revision of `serving` takes the traffic and that of `starting` exists, too."""
    children: dict[Any, Child] = {}
    for found in (starting, serving):  # the Service is that of the last one
        if found is not None:
            made = given.realised(given.observed(found)).children
            children |= {child.ref: child for child in made}
    kept = [child for child in children.values() if not without(child)]
    return given.observed(spec, children=kept, pods=pods, router=router)


def roll_out(observed: Observed, *, replicas: int = 1) -> Rollout:
    resolved = given.resolved(observed.parent.spec)
    return revisions.roll_out(observed, resolved, replicas=replicas, now=given.MOMENT)


def only(revision: str, replicas: int = 1) -> Rollout:
    return Rollout(revision, revision, (Revision(revision, replicas),))
