"""A policy that watches before it acts: a run begins without history, which in a real fleet is never so."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from slipstream_operator.core.scaling.metrics.promql import Expression
from slipstream_simulator import readings
from slipstream_simulator.policy import FleetView, Policy


@dataclass
class Settled:
    """Lets a policy fill its windows for some seconds, in which the count stays."""

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
        """The policy's count, once it has watched for long enough."""
        wanted = self.policy.decide(view)
        return wanted if view.now >= self.seconds else readings.bounded(view, view.replicas)

    def restarted(self) -> None:
        """The policy forgets what it had not written down."""
        self.policy.restarted()
