"""Pods that were evicted, preempted, refused by their node or lost with it: one report about the newest of them."""

import dataclasses
from collections.abc import Sequence
from typing import Final

from slipstream_operator.api import units
from slipstream_operator.core import pod_failures
from slipstream_operator.core.events import Event
from slipstream_operator.core.observed import Observed, ObservedPod

REPLACED_SECONDS: Final = 300.0
"""Seconds within which a pod that is gone is replaced: a node that does not answer keeps its pods for five minutes."""
BURST_SECONDS: Final = 600.0
"""Seconds within which losses are one burst, with one Event."""


@dataclasses.dataclass(frozen=True)
class Lost:
    """Loss of one pod, or of several in one burst."""

    reason: str
    message: str
    at: float
    """Time of the newest loss, in seconds since the epoch."""


def of(observed: Observed) -> Lost | None:
    """Return the losses since an engine last became ready; None if there are none.

    NB: pods that ended stay for days, so they explain no pods that were made long after them, such as after a night
    without replicas.
    """
    ready_at = max((_moment(pod.ready_since) for pod in observed.pods if pod.ready), default=0.0)
    lost = [(_lost_at(pod), pod.name, pod) for pod in observed.gone if _is_lost(pod)]
    unreplaced = sorted([each for each in lost if each[0] >= ready_at], key=lambda each: each[:2])
    if not unreplaced:
        return None
    at, _, newest = unreplaced[-1]
    coming = [
        units.moment(pod.created) for pod in (*observed.pods, *observed.workers) if not pod.ready
    ]
    if coming and min(coming) > at + REPLACED_SECONDS:
        return None
    burst = [pod for time, _, pod in unreplaced if time > at - BURST_SECONDS]
    return _report(newest, burst, at=at)


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
