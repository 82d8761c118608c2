"""Supply of replicas: a starting pod counts from its expected arrival, a stuck pod does not count."""

import dataclasses
from collections.abc import Collection, Sequence
from typing import Final

from slipstream_operator.core.scaling import wording
from slipstream_operator.core.scaling.models.coldstart import ColdStart

UNSCHEDULABLE_AFTER: Final = 60.0
"""Seconds without existing at all, or without a node where none is made for it, after which a pod no longer counts as
coming."""
_OVERDUE: Final = 3.0
"""Times the usual start after which a pod no longer counts as coming."""
_OVERDUE_AT_FIRST: Final = 1800.0
"""Seconds after which it doesn't, as long as no start was seen."""
_FAILED_STARTS: Final = 2
"""So many pods whose engine ended before it was ready: more of them would end, too."""


@dataclasses.dataclass(frozen=True, slots=True)
class PodStatus:
    """Pod as the API server shows it; times in seconds since the epoch."""

    name: str
    created: float
    ready_at: float | None
    """Since when it is ready; None if it is not."""
    terminating: bool = False
    scheduled: bool = True
    failed_starts: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Supply:
    """The pods of a service by what can be expected of them."""

    ready: int
    starting: int
    stuck: int
    """Pods that will not be ready soon: without a node, failing, or overdue."""
    unschedulable: int
    failing: int
    started: tuple[float, ...]
    """Seconds from creation to readiness of those that were seen to become ready just now; as long as no start was
    seen, of all that are ready."""
    coming: tuple[str, ...]
    """Names of those that are not ready yet."""
    newest: float
    """When the youngest of the ready ones became ready; 0 if none is."""
    waited: float
    """Seconds since the creation of the oldest pod that starts as it should: starts take at least as long."""

    @property
    def broken(self) -> bool:
        """Whether starts fail again and again."""
        return self.failing >= _FAILED_STARTS

    @property
    def limited(self) -> str | None:
        """Why more pods would not help now, if that is so."""
        if self.broken:
            return wording.agreeing(self.failing, "engine fails", "engines fail") + " to start"
        if self.unschedulable:
            return wording.agreeing(self.unschedulable, "pod is", "pods are") + " unschedulable"
        return None


def survey(
    pods: Sequence[PodStatus],
    *,
    ordered: int,
    ordered_at: float,
    now: float,
    cold: ColdStart,
    coming: Collection[str],
    provision: float = UNSCHEDULABLE_AFTER,
) -> Supply:
    """Sort the pods; `coming` are the names that were not ready when it was last looked, `ordered` the pods that
    were asked for, of which some may not exist yet: a quota can forbid them. For `provision` seconds a pod without a
    node counts as starting: an autoscaler may be making one, which nothing that we can read tells."""
    live = [pod for pod in pods if not pod.terminating]
    ready = [pod.ready_at for pod in live if pod.ready_at is not None]
    waiting = [pod for pod in live if pod.ready_at is None]
    unschedulable = sum(not pod.scheduled and now - pod.created > provision for pod in waiting)
    failing = sum(pod.failed_starts > 0 for pod in waiting)
    patience = _OVERDUE * cold.p90 if cold.known else _OVERDUE_AT_FIRST
    ages = [now - pod.created for pod in waiting if pod.scheduled and not pod.failed_starts]
    overdue = sum(age > patience for age in ages)
    absent = max(0, ordered - len(live))
    late = absent if now - ordered_at > UNSCHEDULABLE_AFTER else 0
    stuck = unschedulable + failing + overdue + late
    return Supply(
        ready=len(ready),
        starting=len(waiting) + absent - stuck,
        stuck=stuck,
        unschedulable=unschedulable + late,
        failing=failing,
        started=tuple(
            pod.ready_at - pod.created
            for pod in live
            if pod.ready_at is not None and _tells(pod, pod.ready_at, coming, cold)
        ),
        coming=tuple(sorted(pod.name for pod in waiting)),
        newest=max(ready, default=0.0),
        waited=max([age for age in ages if age <= patience], default=0.0),
    )


def _tells(pod: PodStatus, ready_at: float, coming: Collection[str], cold: ColdStart) -> bool:
    """Whether it became ready for the first time: long after its creation it was so before, and lost it."""
    if pod.name in coming:
        return True
    return not cold.known and ready_at - pod.created <= _OVERDUE_AT_FIRST
