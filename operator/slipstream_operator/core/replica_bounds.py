"""Bounds of a service's replica count: those of its spec, within its profile's limits and its namespace's quota."""

import dataclasses

from slipstream_operator.api import units
from slipstream_operator.api.inferenceservice import InferenceServiceSpec
from slipstream_operator.api.servingprofile import ServingProfileSpec
from slipstream_operator.core import quota, wording
from slipstream_operator.core.scaling.bounds import Bounds
from slipstream_operator.errors import PermanentError
from slipstream_operator.names import Reason


def of(
    spec: InferenceServiceSpec, profile: ServingProfileSpec, name: str, share: quota.Share | None
) -> Bounds:
    """Return the bounds within the namespace's quota. A service without a share runs no replica."""
    bounds = _requested(spec, profile, name)
    if share is None:
        return bounds
    if share.refused is not None:
        return Bounds(0, 0, follows_load=False)
    return dataclasses.replace(
        bounds,
        minimum=min(bounds.minimum, share.replicas),
        maximum=min(bounds.maximum, share.replicas),
    )


def _requested(spec: InferenceServiceSpec, profile: ServingProfileSpec, name: str) -> Bounds:
    most = profile.limits.max_replicas if profile.limits else None
    field, value = (
        ("spec.scaling.maxReplicas", spec.scaling.max_replicas)
        if spec.scaling
        else ("spec.replicas", spec.replicas)
    )
    if most is not None and value > most:
        raise PermanentError(
            Reason.LIMIT_EXCEEDED,
            f"{field}: {value} is more than the {wording.replicas(most)} that ServingProfile {name} allows. Use fewer "
            "replicas, or ask the platform team.",
        )
    if spec.scaling is None:
        return Bounds(spec.replicas, spec.replicas, follows_load=False)
    return Bounds(
        spec.scaling.min_replicas,
        spec.scaling.max_replicas,
        follows_load=True,
        paused=spec.scaling.paused,
        recommend=spec.scaling.mode == "Recommend",
        idle_after=units.seconds(spec.scaling.idle_after) if spec.scaling.idle_after else None,
    )
