"""Futility: a spike that ends before new pods are ready is not worth them. How long spikes last is learned."""

import dataclasses
from typing import Final

_WORTH: Final = 0.3
"""Pods are ordered at once if at least this share of the past spikes outlasted a cold start."""
_FADING: Final = 0.8
_OVER: Final = 0.8
"""A spike is over when what was there before it is this busy again, or less."""


@dataclasses.dataclass(frozen=True, slots=True)
class Spikes:
    """Spikes that outlasted a cold start, and those that did not; the newest count most. `began` is the one now."""

    long: float = 1.0
    short: float = 1.0
    began: float | None = None
    before: int = 0
    """Replicas that were enough before it."""


def update(spikes: Spikes, *, work: float, supply: int, now: float, horizon: float) -> Spikes:
    """Note the begin of a spike when there is more work than the supply can do, and at its end how long it was."""
    if spikes.began is None:
        if work > supply:
            return dataclasses.replace(spikes, began=now, before=supply)
        return spikes
    lasted = now - spikes.began
    if work > _OVER * spikes.before and lasted < horizon:
        return spikes
    long = float(lasted >= horizon)
    return Spikes(
        long=spikes.long * _FADING + long,
        short=spikes.short * _FADING + 1 - long,
        began=now if work > supply else None,
        before=supply,
    )


def futile(spikes: Spikes, *, now: float, horizon: float) -> bool:
    """Whether the present spike will probably end before a pod ordered now is ready."""
    if spikes.began is None or now - spikes.began >= horizon:
        return False
    return spikes.long / (spikes.long + spikes.short) < _WORTH
