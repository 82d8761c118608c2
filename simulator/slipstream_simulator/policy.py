"""Interface of a scaling policy: the queries that it needs, and its decision."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from slipstream_operator.core.objectives import Objectives
from slipstream_operator.core.scaling.metrics.promql import Expression
from slipstream_operator.core.scaling.metrics.values import Sample, Unknown


@dataclass(frozen=True)
class Pod:
    """Pod of the service as the API server reports it; times are seconds of the simulation."""

    name: str
    created: float
    ready: bool
    ready_at: float | None
    terminating: bool
    scheduled: bool
    """Whether it has a node; false while no node or quota has room."""
    failed_starts: int = 0
    """Number of times that its engine ended before it was ready."""


@dataclass(frozen=True)
class FleetView:
    """Everything that a policy knows when it decides."""

    now: float
    replicas: int
    """Replicas that were requested last: spec.replicas."""
    pods: tuple[Pod, ...]
    samples: Mapping[str, Sequence[Sample] | Unknown]
    """Result of each query by name; Unknown while Prometheus does not answer."""
    minimum: int
    maximum: int
    objectives: Objectives


class Policy(Protocol):
    """Autoscaler of one service; it keeps its own state."""

    name: str
    every: float
    """Seconds between decisions."""

    def queries(self) -> Mapping[str, Expression]:
        """Return the queries to run before each decision, by name."""

    def decide(self, view: FleetView) -> int:
        """Return the number of replicas to request."""

    def restarted(self) -> None:
        """Handle a restart of the autoscaler's process: drop the state that is not persisted."""
