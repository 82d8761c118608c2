"""Revisions: what a pod must be restarted for, hashed; which of them run, and which one takes the traffic.

The Service's selector is the record of which revision is active, so nothing has to be remembered elsewhere.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Final

from slipstream_operator import names
from slipstream_operator.core.observed import Observed
from slipstream_operator.core.resolve import Resolved, Revisioned

ENGINE_KEY: Final = "engine.json"
TEMPLATE_KEY: Final = "template.json"


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


def identity(revisioned: Revisioned) -> str:
    """Eight hexadecimal digits over everything that a pod must be restarted for.

    Inputs are hashed, not the rendered template: a newer operator that renders differently restarts nothing. What is
    None is left out, so that a field which a newer operator adds does not either.
    """
    given = {
        name: part for name, part in dataclasses.asdict(revisioned).items() if part is not None
    }
    text = json.dumps(given, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def roll_out(observed: Observed, resolved: Resolved, *, replicas: int) -> Rollout:
    """Start what is wanted, keep what serves until that has proved itself, then move the traffic."""
    wanted = identity(resolved.revisioned)
    alive = {pod.revision for pod in observed.pods}
    ready = _ready(observed)
    active = _active(observed, ready) or wanted
    if active == wanted:
        return Rollout(wanted, wanted, (Revision(wanted, replicas),))
    if resolved.recreate:
        if active in alive:
            return Rollout(active, wanted, (Revision(active, 0), Revision(wanted, 0)))
        return Rollout(wanted, wanted, (Revision(wanted, replicas),))
    proved = ready.get(wanted, 0) >= max(replicas, 1) or replicas == 0
    if proved or not ready.get(active):
        return Rollout(wanted, wanted, (Revision(wanted, replicas),))
    return Rollout(active, wanted, (Revision(active, replicas), Revision(wanted, replicas)))


def stored(observed: Observed, revision: str) -> Mapping[str, str] | None:
    """What this revision was made with, if its ConfigMap exists: texts under ENGINE_KEY and TEMPLATE_KEY."""
    child = observed.child("ConfigMap", names.revision_name(observed.parent.key.name, revision))
    if child is None or child.controller != observed.parent.uid:
        return None
    data: Mapping[str, str] = child.manifest.get("data", {})
    return data if TEMPLATE_KEY in data else None


def _active(observed: Observed, ready: Mapping[str, int]) -> str | None:
    """By the Service; without one (it was deleted), the revision with most ready pods."""
    existing = {child.revision for child in observed.children if child.ref.kind == "Deployment"}
    service = observed.child("Service", observed.parent.key.name)
    if service is not None and service.controller == observed.parent.uid:
        selected = service.manifest["spec"].get("selector", {}).get(names.REVISION_LABEL)
        if selected in existing:
            return str(selected)
    return max(sorted(ready), key=lambda revision: ready[revision], default=None)


def _ready(observed: Observed) -> dict[str, int]:
    ready: dict[str, int] = {}
    for pod in observed.pods:
        if pod.ready and not pod.deleting:
            ready[pod.revision] = ready.get(pod.revision, 0) + 1
    return ready
