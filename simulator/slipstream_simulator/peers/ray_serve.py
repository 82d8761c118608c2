"""Ray Serve: ongoing requests over their target for one replica, with delays for both directions."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from slipstream_operator.core.scaling.metrics.promql import Expression
from slipstream_operator.core.scaling.metrics.values import Unknown
from slipstream_runtime.simulator import model
from slipstream_simulator import readings
from slipstream_simulator.peers.window import Window
from slipstream_simulator.policy import FleetView, Policy

_LOOK_BACK_SECONDS: Final = 30.0
_UP_SECONDS, _DOWN_SECONDS = 30.0, 600.0


@dataclass
class RayServe:
    """Policy that takes a count once the direction has been the same for its delay."""

    target: float
    name: str = "ray-serve"
    every: float = 10.0
    _ongoing: Window = field(default_factory=lambda: Window(_LOOK_BACK_SECONDS))
    _direction: int = 0
    _since: float = 0.0

    def queries(self) -> Mapping[str, Expression]:
        """Requests in the replicas, and those queued in the handles."""
        return {"ongoing": readings.in_flight()}

    def decide(self, view: FleetView) -> int:
        """Return the count; the present one while nothing reports."""
        ongoing = readings.value(view, "ongoing")
        if isinstance(ongoing, Unknown):
            return view.replicas
        self._ongoing.add(view.now, ongoing)
        mean = self._ongoing.mean(view.now)
        if not view.replicas:
            return max(view.minimum, 1 if mean > 0 else 0)
        wanted = readings.bounded(view, math.ceil(mean / self.target))
        direction = (wanted > view.replicas) - (wanted < view.replicas)
        if direction != self._direction:
            self._direction, self._since = direction, view.now
        if view.now - self._since < (_UP_SECONDS if direction > 0 else _DOWN_SECONDS):
            return view.replicas
        self._direction = 0
        return wanted

    def restarted(self) -> None:
        """The controller's checkpoint holds counts, not windows or delays."""
        self._ongoing.clear()
        self._direction = 0


def shipped(_: model.Parameters, target: float) -> Policy:
    """With target_ongoing_requests as the knob."""
    return RayServe(target)
