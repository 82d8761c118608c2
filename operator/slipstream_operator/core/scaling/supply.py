"""Supply of replicas: ready, starting and stuck pods. A stuck pod does not count."""

import dataclasses
from collections.abc import Collection, Sequence
from typing import Final

from slipstream_operator.core import wording
from slipstream_operator.core.scaling.models.coldstart import ColdStart

UNSCHEDULABLE_AFTER: Final = 60.0
"""Seconds after which a pod that was not created, or has no node, no longer counts as starting."""
_OVERDUE: Final = 3.0
"""Factor of the 90th percentile of cold starts after which a pod no longer counts as starting."""
_OVERDUE_AT_FIRST: Final = 1800.0
"""The same limit in seconds before the first observed start."""
_FAILED_STARTS: Final = 2
"""Pods whose engine exited before it was ready from which more pods would fail, too."""


@dataclasses.dataclass(frozen=True, slots=True)
class PodStatus:
    """Status of a pod in the API server; times in seconds since the epoch."""

    name: str
    created: float
    ready_at: float | None
    """Time of its readiness; None if it is not ready."""
    terminating: bool = False
    scheduled: bool = True
    failed_starts: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Supply:
    """Pods of a service by their state."""

    ready: int
    starting: int
    stuck: int
    """Pods that will not be ready soon: without a node, failing, or overdue."""
    unschedulable: int
    failing: int
    started: tuple[float, ...]
    """Seconds from creation to readiness, of each pod that became ready since the last tick.

    Before the first observed start it covers all ready pods.
    """
    coming: tuple[str, ...]
    """Names of the pods that are not ready yet."""
    newest: float
    """Time at which the newest ready pod became ready; 0 if no pod is ready."""
    waited: float
    """Seconds since the creation of the oldest pod that starts normally."""

    @property
    def broken(self) -> bool:
        """Whether engines repeatedly fail to start."""
        return self.failing >= _FAILED_STARTS

    @property
    def limited(self) -> str | None:
        """Reason for which more pods would not help now; None if they would."""
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
    """Return the pods of a service by their state.

    `coming` are the names of pods that were not ready at the last tick. `ordered` is the desired count; some pods may
    not exist, since a quota can forbid them. A pod without a node counts as starting for `provision` seconds, in
    which a cluster autoscaler may create a node.
    """
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
    """Whether the pod became ready for the first time; long after its creation it only became ready again."""
    if pod.name in coming:
        return True
    return not cold.known and ready_at - pod.created <= _OVERDUE_AT_FIRST
