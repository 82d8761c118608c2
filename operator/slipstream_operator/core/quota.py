"""Quota of accelerators of a namespace: the share of each service.

All services are allocated together, in order of age, so that no accelerator is counted twice. First each service gets
its minimum replicas, as far as accelerators remain. Then each gets more replicas up to its maximum. The rest allows a
second set of replicas during rollouts. A service with an invalid spec keeps the accelerators of its running engines.
"""

import dataclasses
import functools
import re
from collections.abc import Mapping, Sequence
from typing import Final

from slipstream_operator.api.inferenceservice import InferenceServiceSpec
from slipstream_operator.api.servingprofile import ServingProfileSpec
from slipstream_operator.core import devices, parallelism, parsing, profiles, wording
from slipstream_operator.core.observed import Key, Observed, Packed, Parent
from slipstream_operator.core.runtimes import registry
from slipstream_operator.errors import PermanentError

_SHOWN: Final = re.compile(r"(?P<name>.+) x (?P<count>[1-9][0-9]{0,4})( on [0-9]+ nodes)?$")
"""Format of status.engine.accelerator."""


@dataclasses.dataclass(frozen=True)
class Want:
    """Accelerators that a service needs."""

    key: Key
    created: str
    accelerators: int
    """Accelerators of one replica."""
    fewest: int
    """Minimum replicas."""
    most: int
    surges: bool = True
    """Whether a new revision starts while the old one serves requests."""

    @property
    def age(self) -> tuple[str, Key]:
        """Order of services, the oldest first."""
        return self.created, self.key


@dataclasses.dataclass(frozen=True)
class Grant:
    """Replicas that a service can run."""

    replicas: int
    surge: int
    """Additional replicas during a rollout."""


@dataclasses.dataclass(frozen=True)
class Share:
    """Share of the quota of one service."""

    replicas: int
    surge: int = 0
    """Additional replicas during a rollout."""
    refused: str | None = None
    """Reason why the service can run no replica."""
    capped: str | None = None
    """Reason why it can run fewer replicas than its maximum."""


def share(observed: Observed, profile: ServingProfileSpec, name: str) -> Share | None:
    """Return the service's share; None without a quota, or if the service needs no accelerators."""
    limit = profile.limits.max_accelerators_per_namespace if profile.limits else None
    if limit is None:
        return None
    own = _want(observed.parent, profile)
    if own is None:
        return None
    wants = [own, *(want for other in observed.siblings if (want := _want(other, profile)))]
    granted = allocate(wants, limit)
    replicas, surge = granted[own.key].replicas, granted[own.key].surge
    if own.fewest and not replicas:
        older = sum(
            granted[want.key].replicas * want.accelerators for want in wants if want.age < own.age
        )
        return Share(0, refused=_refusal(own, name, limit=limit, older=older))
    if replicas == own.most:
        return Share(replicas, surge)
    return Share(
        replicas,
        surge,
        capped=f"ServingProfile {name} allows {wording.counted(limit, 'accelerator')} per namespace. This service "
        f"can use {replicas * own.accelerators}, for {replicas} of {wording.replicas(own.most)}.",
    )


def allocate(wants: Sequence[Want], limit: int) -> Mapping[Key, Grant]:
    """Return the grant of each service."""
    replicas, surges, left = {}, {}, limit
    by_age = sorted(wants, key=lambda want: want.age)
    for want in by_age:
        replicas[want.key] = min(want.fewest, left // want.accelerators)
        left -= replicas[want.key] * want.accelerators
    for want in by_age:
        if want.fewest and not replicas[want.key]:
            continue
        more = min(want.most - replicas[want.key], left // want.accelerators)
        replicas[want.key] += more
        left -= more * want.accelerators
    for want in by_age:
        most = replicas[want.key] if want.surges else 0
        surges[want.key] = min(most, left // want.accelerators)
        left -= surges[want.key] * want.accelerators
    return {want.key: Grant(replicas[want.key], surges[want.key]) for want in wants}


def _refusal(want: Want, name: str, *, limit: int, older: int) -> str:
    each = wording.counted(want.accelerators, "accelerator")
    allowed = wording.counted(limit, "accelerator")
    return (
        f"spec.accelerator.count: {wording.replicas(want.fewest)} of {each} can't run because "
        f"ServingProfile {name} allows {allowed} per namespace, and older services use {older}. Use "
        "fewer replicas or accelerators, stop another service, or ask the platform team for more."
    )


def _want(parent: Parent, profile: ServingProfileSpec) -> Want | None:
    """Return the need of a service; None if it needs no accelerators."""
    spec = _spec(parent.packed_spec)
    accelerator = profiles.accelerator(spec, profile) if spec else None
    if spec is None or accelerator is None:
        return _running(parent)
    if not registry.of(spec).device(accelerator).dedicated:
        return None
    try:
        accelerators = parallelism.split(spec, dedicated=True).total
    except PermanentError:
        return _running(parent)
    fewest = most = spec.replicas
    if spec.scaling is not None:
        # A service that scales to zero needs one replica for the next request.
        fewest, most = max(spec.scaling.min_replicas, 1), max(spec.scaling.max_replicas, 1)
    rollout = spec.rollout
    stays = rollout is not None and (rollout.strategy == "Recreate" or rollout.surge == 0)
    return Want(parent.key, parent.created, accelerators, fewest, most, surges=not stays)


def _running(parent: Parent) -> Want | None:
    """Return the accelerators that a service uses according to its status; None if it uses none."""
    engine, replicas = parent.status.get("engine") or {}, parent.status.get("replicas") or 0
    shown = _SHOWN.match(str(engine.get("accelerator", "")))
    if shown is None:
        return None
    runtime, device = registry.RUNTIMES.get(engine.get("runtime", "")), devices.named(shown["name"])
    if (runtime and not runtime.uses_accelerator) or (device and not device.dedicated):
        return None
    count = int(shown["count"])
    return Want(parent.key, parent.created, count, replicas, replicas, surges=False)


@functools.lru_cache(maxsize=4096)
def _spec(packed: Packed) -> InferenceServiceSpec | None:
    try:
        return parsing.parse(InferenceServiceSpec, packed.manifest, what="spec")
    except PermanentError:
        return None
