"""Interface of a scaling policy: the queries that it asks, and the count that it decides."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from slipstream_operator.core.objectives import Objectives
from slipstream_operator.core.scaling.metrics.promql import Expression
from slipstream_operator.core.scaling.metrics.values import Sample, Unknown


@dataclass(frozen=True)
class Pod:
    """Pod of the service as the API server shows it; times in seconds of the simulation."""

    name: str
    created: float
    ready: bool
    ready_at: float | None
    terminating: bool
    scheduled: bool
    """False while no node or quota has room for it."""
    failed_starts: int = 0
    """Times that its engine ended before it was ready."""


@dataclass(frozen=True)
class FleetView:
    """Everything that a policy knows when it decides."""

    now: float
    replicas: int
    """What was asked for last: spec.replicas."""
    pods: tuple[Pod, ...]
    samples: Mapping[str, Sequence[Sample] | Unknown]
    """Name of a query -> its result; Unknown while Prometheus does not answer."""
    minimum: int
    maximum: int
    objectives: Objectives


class Policy(Protocol):
    """One autoscaler of one service; its state is its own."""

    name: str
    every: float
    """Seconds between decisions."""

    def queries(self) -> Mapping[str, Expression]:
        """Name -> what to ask before each decision."""

    def decide(self, view: FleetView) -> int:
        """The replicas to ask for."""

    def restarted(self) -> None:
        """Handle a restart of the deciding process: state that was not persisted is gone."""
