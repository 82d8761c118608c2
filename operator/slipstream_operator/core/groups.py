"""Replicas that span nodes: the cause of the loss of a group of pods."""

import dataclasses
from typing import Final

from slipstream_operator.core import pod_failures
from slipstream_operator.core.observed import Observed, ObservedPod
from slipstream_operator.names import Reason

_ENDS: Final = (Reason.ENGINE_FAILED, Reason.OUT_OF_MEMORY, *pod_failures.LOST)


@dataclasses.dataclass(frozen=True)
class Loss:
    """Restart of a group after one of its pods ended."""

    message: str
    at: str
    """Time when it was observed, as Kubernetes writes times."""


def loss(observed: Observed, known: Loss | None, *, now: str) -> Loss | None:
    """Return the loss to report, until a newer group is ready.

    LeaderWorkerSet replaces all pods of a group, so the cause is visible only for a moment, and later ends are its
    consequences. Workers are checked before their leader, which ends when a worker is gone.
    """
    since = known.at if known else ""
    replaced_at = max((pod.ready_since or "" for pod in observed.pods if pod.ready), default="")
    for pod in _members(observed):
        ended = pod.trouble is not None and pod.trouble[0] in _ENDS
        replaced = pod.gone_at is not None and pod.gone_at < replaced_at
        if ended and not replaced and pod.created > since:
            return Loss(_message(pod), now)
    healed = any(pod.ready and pod.created > since for pod in observed.pods)
    return None if healed else known


def _members(observed: Observed) -> list[ObservedPod]:
    """Return the pods of groups, workers first; none if no pod is a worker."""
    pods = [*observed.gone, *observed.workers, *observed.pods]
    members = sorted(pods, key=lambda pod: not pod.worker)
    return members if members and members[0].worker else []


def _message(pod: ObservedPod) -> str:
    assert pod.trouble is not None
    kind = "worker" if pod.worker else "leader"
    return f"The group restarts because {kind} {pod.name} failed: {pod.trouble[1]}"
