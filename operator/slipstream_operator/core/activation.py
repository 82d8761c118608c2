"""Activation of a service at zero: the router renews a Lease while requests wait for a first replica."""

import dataclasses
import math
from typing import Final

from slipstream_operator import names
from slipstream_operator.api import units
from slipstream_operator.core.observed import Observed
from slipstream_operator.core.scaling.bounds import Bounds

FRESH_SECONDS: Final = 30.0
"""Seconds for which a renewal counts. The router renews at most once a second while requests wait."""


@dataclasses.dataclass(frozen=True, slots=True)
class Renewal:
    """Renewal of the Lease as last read."""

    text: str | None
    """Time of the renewal as the router wrote it; None if it never did."""
    seen_at: float = -math.inf
    """Time at which this process saw the renewal, on its monotonic clock; -inf if it is an old one."""


def noted(observed: Observed, known: Renewal | None, *, now: float, monotonic: float) -> Renewal:
    """Return the renewal, given the `known` one. `now` is in seconds since the epoch.

    Any change is a renewal, because the clock of the router may be wrong. The time itself counts only for the first
    renewal that this process reads.
    """
    text = _renew_time(observed)
    if known is not None:
        return known if text == known.text else Renewal(text, monotonic)
    renewed = _moment(text)
    fresh = renewed is not None and abs(now - renewed) < FRESH_SECONDS
    return Renewal(text, monotonic) if fresh else Renewal(text)


def requested(renewal: Renewal, bounds: Bounds, desired: int, *, monotonic: float) -> bool:
    """Whether a service at zero must start a replica; `monotonic` is on the clock of `seen_at`."""
    if desired > 0 or not bounds.follows_load or bounds.maximum < 1 or bounds.paused:
        return False
    return renewal.text is not None and monotonic - renewal.seen_at < FRESH_SECONDS


def _renew_time(observed: Observed) -> str | None:
    lease = observed.child("Lease", names.activation_name(observed.parent.key.name))
    if lease is None or lease.controller != observed.parent.uid:
        return None
    text = lease.manifest.get("spec", {}).get("renewTime")
    return text if isinstance(text, str) and text else None


def _moment(text: str | None) -> float | None:
    """Return seconds since the epoch; None if the text is not a time."""
    try:
        return units.moment(text) if text else None
    except (ValueError, OverflowError):
        return None
