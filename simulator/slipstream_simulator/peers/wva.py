"""Actuation of llm-d's workload-variant-autoscaler: a gauge, through Prometheus, to a HorizontalPodAutoscaler."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from slipstream_operator.core.scaling.metrics.promql import Expression
from slipstream_operator.core.scaling.metrics.values import Unknown
from slipstream_simulator.peers import hpa
from slipstream_simulator.policy import FleetView

CHART_WINDOW_SECONDS: Final = 240.0
"""Stabilisation of the chart's HPA, in both directions."""


class Controller(Protocol):
    """One of WVA's engines."""

    every: float

    def queries(self) -> Mapping[str, Expression]:
        """Return the queries of the controller."""

    def desired(self, view: FleetView, last: int) -> int:
        """The replicas to emit, `last` being what it emitted before."""

    def restarted(self) -> None:
        """Forget what it had not written down."""


@dataclass
class Pipeline:
    """A controller, its gauge `wva_desired_replicas`, and the chart's HPA with AverageValue 1."""

    name: str
    controller: Controller
    window: float = CHART_WINDOW_SECONDS
    every: float = hpa.SYNC_SECONDS
    _hpa: hpa.Hpa = field(init=False)
    _desired: int | None = None
    _ran: float = -math.inf

    def __post_init__(self) -> None:
        rules = hpa.Rules(self.window, (hpa.Rate("Pods", 10, 150),))
        self._hpa = hpa.Hpa(hpa.Behavior(up=rules, down=rules))

    def queries(self) -> Mapping[str, Expression]:
        """Return the queries of the controller and the HPA."""
        return self.controller.queries()

    def decide(self, view: FleetView) -> int:
        """The HPA's count, from the gauge as it was scraped: one sync after it was set."""
        away = any(isinstance(result, Unknown) for result in view.samples.values())
        scraped = self._desired
        if self._desired is None:
            self._desired = max(1, view.replicas)
        if view.now - self._ran >= self.controller.every:
            self._ran = view.now
            if not away:
                self._desired = self.controller.desired(view, self._desired)
        proposal: int | Unknown = Unknown("the gauge is not there")
        if scraped is not None and not away:
            proposal = hpa.average_value(view, scraped, target=1.0)
        return self._hpa.sync(view, [proposal])

    def restarted(self) -> None:
        """Keep the emitted count, which is in the object's status; forget the rest."""
        self._ran = -math.inf
        self.controller.restarted()
        self._hpa.restarted()
