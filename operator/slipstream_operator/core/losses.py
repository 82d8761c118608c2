"""Pods that were evicted, preempted, refused by their node or lost with it: one report about the newest of them."""

from collections.abc import Sequence
from typing import Final

from slipstream_operator.api import units
from slipstream_operator.core import pod_failures
from slipstream_operator.core.events import Event
from slipstream_operator.core.observed import Lost, Observed, ObservedPod, PodHistory

REPLACED_SECONDS: Final = 300.0
"""Seconds within which a pod that is gone is replaced: a node that does not answer keeps its pods for five minutes."""
BURST_SECONDS: Final = 600.0
"""Seconds within which losses are one burst, with one Event."""


def of(observed: Observed) -> Lost | None:
    """Return the losses since an engine last became ready; None if there are none.

    A preempted or drained pod is deleted soon, so its loss is remembered. A pod that its node refused stays for days.

    NB: pods that ended stay for days, so they explain no pods that were made long after them, such as after a night
    without replicas.
    """
    found, known = _seen(observed), observed.history.lost
    if known is None or known.at < _ready_at(observed):
        return found
    if found is not None and found.at >= known.at:
        return found
    return known if _explains(observed, known.at) else found


def history(observed: Observed) -> PodHistory:
    """Return the part of the pods' past that their objects may lose."""
    return PodHistory(ready_at=_ready_at(observed), lost=of(observed))


def event(observed: Observed, *, posted_at: float | None, now: float) -> Event | None:
    """Return the Event of a burst of losses, once; None if none is new or the burst was posted.

    `posted_at` is the time of the last Event. The loss of a group has an Event of its own.
    """
    lost = of(observed)
    if lost is None or lost.at <= now - BURST_SECONDS or any(pod.worker for pod in observed.gone):
        return None
    at = min(lost.at, now)  # the node writes the time, and its clock may be wrong
    if posted_at is not None and at < posted_at + BURST_SECONDS:
        return None
    return Event("Warning", lost.reason, lost.message)


def _seen(observed: Observed) -> Lost | None:
    """Return the losses of pods that still exist."""
    ready_at = _ready_at(observed)
    lost = [(_lost_at(pod), pod.name, pod) for pod in observed.gone if _is_lost(pod)]
    unreplaced = sorted([each for each in lost if each[0] >= ready_at], key=lambda each: each[:2])
    if not unreplaced:
        return None
    at, _, newest = unreplaced[-1]
    if not _explains(observed, at):
        return None
    burst = [pod for time, _, pod in unreplaced if time > at - BURST_SECONDS]
    return _report(newest, burst, at=at)


def _ready_at(observed: Observed) -> float:
    """Return the time when an engine last became ready."""
    times = [_moment(pod.ready_since) for pod in observed.pods if pod.ready]
    return max([observed.history.ready_at, *times])


def _explains(observed: Observed, at: float) -> bool:
    """Whether pods that are not ready can replace pods that were lost at this time."""
    coming = [
        units.moment(pod.created) for pod in (*observed.pods, *observed.workers) if not pod.ready
    ]
    return not coming or min(coming) <= at + REPLACED_SECONDS


def _report(newest: ObservedPod, burst: Sequence[ObservedPod], *, at: float) -> Lost:
    assert newest.trouble is not None
    reason, message = newest.trouble
    kind = "worker" if newest.worker else "pod"
    who = f"{kind.capitalize()} {newest.name}"
    if len(burst) > 1:
        who = f"{len(burst)} pods within ten minutes. The newest is {kind} {newest.name}"
    return Lost(reason, f"{who}: {message}", at)


def _is_lost(pod: ObservedPod) -> bool:
    return pod.trouble is not None and pod.trouble[0] in pod_failures.LOST


def _lost_at(pod: ObservedPod) -> float:
    return _moment(pod.gone_at or pod.created)


def _moment(time: str | None) -> float:
    return units.moment(time) if time else 0.0
