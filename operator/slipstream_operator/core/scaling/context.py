"""Context of a decision, beside the state."""

import dataclasses
import functools

from slipstream_operator.core.scaling.inputs import Inputs
from slipstream_operator.core.scaling.metrics.values import Load, Reading
from slipstream_operator.core.scaling.models import sizing
from slipstream_operator.core.scaling.models.steptime import Coefficients
from slipstream_operator.core.scaling.supply import Supply


@dataclasses.dataclass(frozen=True)
class TickContext:
    """Context of one tick in which the load is known."""

    inputs: Inputs
    model: Coefficients | None
    """The step time as sizing takes it; None where it is not known."""
    pods: Supply
    load: Load
    readings: tuple[Reading, ...]
    demand: sizing.Demand
    goals: tuple[sizing.Goal, ...]
    horizon: float
    """Seconds until a pod that is ordered now would be ready and measured."""

    @functools.cached_property
    def work(self) -> float:
        """Replicas that the load keeps busy; 0 if the step time is not known."""
        return 0.0 if self.model is None else sizing.work(self.model, self.demand)

    @property
    def engines(self) -> int:
        """Engines that are ready: with data parallelism several in a replica."""
        return self.pods.ready * self.inputs.engines

    @property
    def utilisation(self) -> float:
        """Load of the ready pods; above 1 they can't keep up."""
        return self.work / max(self.pods.ready, 1)
