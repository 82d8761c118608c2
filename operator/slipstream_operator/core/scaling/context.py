"""Context of a decision, apart from the state."""

import dataclasses
import functools

from slipstream_operator.core.scaling.inputs import Inputs
from slipstream_operator.core.scaling.metrics.values import Load, Reading
from slipstream_operator.core.scaling.models import sizing
from slipstream_operator.core.scaling.models.steptime import Coefficients
from slipstream_operator.core.scaling.supply import Supply


@dataclasses.dataclass(frozen=True)
class TickContext:
    """Context of one tick with a known load."""

    inputs: Inputs
    model: Coefficients | None
    """Cautious coefficients of the step time; None if unknown."""
    pods: Supply
    load: Load
    readings: tuple[Reading, ...]
    demand: sizing.Demand
    goals: tuple[sizing.Goal, ...]
    horizon: float
    """Seconds until a pod that is started now would be ready and measured."""

    @functools.cached_property
    def work(self) -> float:
        """Replicas that the load keeps busy; 0 if the step time is unknown."""
        return 0.0 if self.model is None else sizing.work(self.model, self.demand)

    @property
    def engines(self) -> int:
        """Ready engines: with data parallelism several in a replica."""
        return self.pods.ready * self.inputs.engines

    @property
    def utilization(self) -> float:
        """Load over ready replicas; above 1 the queue grows."""
        return self.work / max(self.pods.ready, 1)
