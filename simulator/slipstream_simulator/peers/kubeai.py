"""KubeAI (chart 0.22.1): the 10-minute mean of the requests in flight at its proxy, over a target."""

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from slipstream_operator.core.scaling.metrics.promql import Expression
from slipstream_operator.core.scaling.metrics.values import Unknown
from slipstream_runtime.simulator import model
from slipstream_simulator import readings
from slipstream_simulator.policy import FleetView, Policy

_INTERVAL_SECONDS: Final = 10.0
_SAMPLES: Final = 60
_LOWER_TICKS: Final = 3
"""scaleDownDelay 30 s, over the interval."""


@dataclass
class KubeAI:
    """Policy that scales up at once, and down after enough lower ticks in a row."""

    target: float
    name: str = "kubeai"
    every: float = _INTERVAL_SECONDS
    _samples: deque[float] = field(default_factory=lambda: deque(maxlen=_SAMPLES))
    _lower: int = 0

    def queries(self) -> Mapping[str, Expression]:
        """Requests in flight: those in the engines and those that the proxy holds."""
        return {"in_flight": readings.in_flight()}

    def decide(self, view: FleetView) -> int:
        """Return the count; the present one if it could not read its own metrics."""
        active = readings.value(view, "in_flight")
        if isinstance(active, Unknown):
            return view.replicas
        if not self._samples:
            self._samples.extend([active] * _SAMPLES)
        self._samples.append(active)
        if not view.replicas and active:
            return max(1, view.minimum)
        mean = sum(self._samples) / len(self._samples)
        wanted = readings.bounded(view, math.ceil(mean / self.target))
        if wanted >= view.replicas:
            self._lower = 0
            return wanted
        self._lower += 1
        return wanted if self._lower > _LOWER_TICKS else view.replicas

    def restarted(self) -> None:
        """Fill the window with the mean, which a ConfigMap keeps; ticks are not kept."""
        if self._samples:
            self._samples.extend([sum(self._samples) / len(self._samples)] * _SAMPLES)
        self._lower = 0


def shipped(_: model.Parameters, target: float) -> Policy:
    """With targetRequests as the knob."""
    return KubeAI(target)
