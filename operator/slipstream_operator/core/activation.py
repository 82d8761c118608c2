"""Activation of a service at zero: the router renews a Lease while requests wait for a first replica."""

import datetime
from typing import Final

from slipstream_operator import names
from slipstream_operator.core.observed import Observed
from slipstream_operator.core.scaling.bounds import Bounds

FRESH_SECONDS: Final = 30.0
"""The router renews at most once a second while requests wait; clocks of two machines may differ by the rest."""


def requested(observed: Observed, bounds: Bounds, desired: int, *, now: float) -> bool:
    """Whether a service at zero must start a replica; `now` in seconds since the epoch."""
    if desired > 0 or not bounds.follows_load or bounds.maximum < 1 or bounds.paused:
        return False
    renewed = renewed_at(observed)
    return renewed is not None and now - renewed < FRESH_SECONDS


def renewed_at(observed: Observed) -> float | None:
    """Return when the router last renewed the Lease, in seconds since the epoch; None if it never did."""
    lease = observed.child("Lease", names.activation_name(observed.parent.key.name))
    if lease is None or lease.controller != observed.parent.uid:
        return None
    text = lease.manifest.get("spec", {}).get("renewTime")
    try:
        return datetime.datetime.fromisoformat(text).timestamp() if text else None
    except ValueError:
        return None
