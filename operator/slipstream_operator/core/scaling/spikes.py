"""Futility: a spike that ends before new pods are ready is not worth them. How long spikes last is learned."""

import dataclasses
from typing import Final

_WORTH: Final = 0.3
"""Pods are ordered at once if at least this share of the past spikes outlasted a cold start."""
_FADING: Final = 0.8


@dataclasses.dataclass(frozen=True, slots=True)
class Spikes:
    """Spikes that outlasted a cold start, and those that did not; the newest count most. `began` is the one now."""

    long: float = 1.0
    short: float = 1.0
    began: float | None = None
    before: int = 0
    """Replicas that were enough before it."""


def follow(spikes: Spikes, *, need: int, supply: int, now: float, horizon: float) -> Spikes:
    """Note the begin of a spike when the need exceeds the supply, and what it was when it is over."""
    if spikes.began is None:
        if need > supply:
            return dataclasses.replace(spikes, began=now, before=supply)
        return spikes
    lasted = now - spikes.began
    if need > spikes.before and lasted < 2 * horizon:
        return spikes
    long = float(lasted >= horizon)
    return Spikes(
        long=spikes.long * _FADING + long,
        short=spikes.short * _FADING + 1 - long,
        began=now if need > supply else None,
        before=supply,
    )


def futile(spikes: Spikes, *, now: float, horizon: float) -> bool:
    """Whether the present spike will probably end before a pod ordered now is ready."""
    if spikes.began is None or now - spikes.began >= horizon:
        return False
    return spikes.long / (spikes.long + spikes.short) < _WORTH
