"""Futility: a spike that ends before new pods are ready justifies no pods. The length of spikes is learned."""

import dataclasses
from typing import Final

_WORTH: Final = 0.3
"""Share of past spikes that must have outlasted a cold start for pods to be started at once.

Scenario 06-short-spike of benchmarks/autoscaling notices a change."""
_FADING: Final = 0.8
"""Weight of past spikes against the newest one: about the last five count."""
_OVER: Final = 0.8
"""Utilization of the replicas from before a spike at which the spike is over."""


@dataclasses.dataclass(frozen=True, slots=True)
class Spikes:
    """Weighted counts of spikes that outlasted a cold start (`long`) and of other spikes (`short`)."""

    long: float = 1.0
    short: float = 1.0
    began: float | None = None
    """Start of the current spike, in seconds since the epoch; None without one."""
    before: int = 0
    """Ready replicas at its start."""


def update(spikes: Spikes, *, work: float, supply: int, now: float, horizon: float) -> Spikes:
    """Return the counts after a tick: a spike starts when there is more work than supply, and is counted at its end."""
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
    """Whether the current spike will probably end before a pod that is started now is ready."""
    if spikes.began is None or now - spikes.began >= horizon:
        return False
    return spikes.long / (spikes.long + spikes.short) < _WORTH
