"""What a decision looks at, beside the state."""

import dataclasses

from slipstream_operator.core.scaling import sizing
from slipstream_operator.core.scaling.signals import Load, Reading
from slipstream_operator.core.scaling.state import Inputs
from slipstream_operator.core.scaling.supply import Supply


@dataclasses.dataclass(frozen=True, slots=True)
class Scene:
    """Of one tick in which the load is known."""

    inputs: Inputs
    pods: Supply
    load: Load
    readings: tuple[Reading, ...]
    asked: sizing.Demand
    goals: tuple[sizing.Goal, ...]
    horizon: float
    """Seconds until a pod that is ordered now would be ready and measured."""
    work: float
    """Replicas that the load keeps busy; 0 if the step time is not known."""

    @property
    def utilisation(self) -> float:
        """Load of the ready pods; above 1 they can't keep up."""
        return self.work / max(self.pods.ready, 1)
