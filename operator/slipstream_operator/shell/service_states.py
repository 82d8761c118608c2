"""In-memory state of each service, shared by the reconciler and the scaling loop."""

import dataclasses
import math
from collections.abc import Mapping

from slipstream_operator.core import revisions
from slipstream_operator.core.activation import Renewal
from slipstream_operator.core.comparison.collection import Collected, Comparison
from slipstream_operator.core.comparison.totals import Totals
from slipstream_operator.core.fetching import Fetched
from slipstream_operator.core.groups import Loss
from slipstream_operator.core.observed import Key, PodHistory
from slipstream_operator.core.resolved import Resolved
from slipstream_operator.core.rollout.state import Progress
from slipstream_operator.core.router_config import Entry, RouterProblem
from slipstream_operator.core.tick import Scaling


@dataclasses.dataclass(slots=True)
class ServiceState:
    """State of one service. Times are seconds on the monotonic clock."""

    restored: bool = False
    """Whether the state that an earlier leader saved was read."""
    resolved: Resolved | None = None
    rollout: revisions.Rollout | None = None
    progress: Progress = dataclasses.field(default_factory=Progress)
    """Rollout in steps, and the user's commands that were carried out."""
    fetched: Fetched | None = None
    """Result of the completed download or inspection."""
    group_loss: Loss | None = None
    """Reason for the last restart of a pod group that forms one replica."""
    pod_history: PodHistory = dataclasses.field(default_factory=PodHistory)
    """Past of the pods that their objects may lose."""
    loss_posted_at: float | None = None
    """Time of the last Event about lost pods, in seconds since the epoch; None before the first."""
    status_written_at: float = -math.inf
    renewal: Renewal | None = None
    """Renewal of the activation Lease as last read; None before the first reconcile."""

    is_entry_known: bool = False
    """Whether `router_entry` was computed."""
    router_entry: Entry | None = None
    """Desired entry of the service in its namespace's router; None if the router must not list it."""
    router_left_at: float | None = None
    """Time from which requests bypass the router; None while they pass through it."""

    scaling: Scaling = dataclasses.field(default_factory=Scaling)
    """Result of the last tick or of the reconcile since then; only `record` replaces it."""

    saved_scaling: str = ""
    """Scaling state as last written to the cluster."""
    saved_at: float = 0.0
    saved_decision: tuple[int, str] | None = None
    """Replica count and reason in `saved_scaling`; None before the first write."""

    comparison: Comparison | None = None
    """Revisions that are compared now, with their weights; the reconciler sets it, and None ends the comparison."""
    collected: Collected | None = None
    """Totals of both revisions; only `collect` replaces it."""

    @property
    def compared(self) -> Mapping[str, Mapping[str, Totals]]:
        """Return the totals of each revision by measure since the comparison began.

        They are empty while the newest round of queries lacked them, or had those of another comparison.
        """
        if self.collected is None or self.collected.comparison != self.comparison:
            return {}
        return self.collected.totals()

    def record(self, scaling: Scaling) -> None:
        """Replace the state of scaling, which the reconciler and the scaling loop only read and return."""
        self.scaling = scaling

    def collect(self, collected: Collected | None) -> None:
        """Replace the totals of the revisions that are compared."""
        self.collected = collected


class ServiceStates:
    """States of all services."""

    def __init__(self) -> None:
        self._states: dict[Key, ServiceState] = {}
        self._router_problems: dict[str, RouterProblem] = {}

    def note_router(self, namespace: str, problem: RouterProblem | None) -> bool:
        """Record why the namespace's router can't be changed, None if it can be; return whether that is new."""
        if self._router_problems.get(namespace) == problem:
            return False
        if problem is None:
            del self._router_problems[namespace]
        else:
            self._router_problems[namespace] = problem
        return True

    def router_problem(self, namespace: str) -> RouterProblem | None:
        """Return why the namespace's router can't be changed; None if it can be."""
        return self._router_problems.get(namespace)

    def of(self, key: Key) -> ServiceState:
        """Return the service's state; an empty one if the service is new."""
        return self._states.setdefault(key, ServiceState())

    def forget(self, key: Key) -> None:
        """Drop the state of a deleted service."""
        self._states.pop(key, None)

    def known(self) -> list[tuple[Key, ServiceState]]:
        """Return all states."""
        return list(self._states.items())

    def decided(self) -> list[tuple[str, str, int]]:
        """Return namespace, name and desired replicas of each service that has a decision."""
        return [
            (key.namespace, key.name, service.scaling.decision.desired)
            for key, service in self._states.items()
            if service.scaling.decision is not None
        ]

    def failing(self) -> list[tuple[str, str, int]]:
        """Return namespace, name and 1 of each service whose last scaling decision failed."""
        return [
            (key.namespace, key.name, 1)
            for key, service in self._states.items()
            if service.scaling.decision is not None and service.scaling.decision.failed
        ]
