"""Wrapper that lets a policy observe before it acts, since a run starts without history."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from slipstream_operator.core.scaling.metrics.promql import Expression
from slipstream_simulator import readings
from slipstream_simulator.policy import FleetView, Policy


@dataclass
class Settled:
    """Policy that keeps the count for some seconds while the wrapped policy fills its windows."""

    policy: Policy
    seconds: float
    name: str = field(init=False)
    every: float = field(init=False)

    def __post_init__(self) -> None:
        self.name, self.every = self.policy.name, self.policy.every

    def queries(self) -> Mapping[str, Expression]:
        """Return the queries of the wrapped policy."""
        return self.policy.queries()

    def decide(self, view: FleetView) -> int:
        """Return the policy's count after the time of observation."""
        wanted = self.policy.decide(view)
        return wanted if view.now >= self.seconds else readings.bounded(view, view.replicas)

    def restarted(self) -> None:
        """Drop the wrapped policy's state that is not persisted."""
        self.policy.restarted()
