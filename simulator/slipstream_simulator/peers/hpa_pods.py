"""HorizontalPodAutoscaler on one gauge of the engines, through the Prometheus adapter."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from slipstream_operator.core.scaling.metrics.promql import Expression, Series
from slipstream_operator.core.scaling.metrics.values import Unknown
from slipstream_runtime import contract
from slipstream_runtime.simulator import model
from slipstream_simulator import readings
from slipstream_simulator.peers import hpa
from slipstream_simulator.policy import FleetView, Policy


@dataclass
class PodsHpa:
    """Policy that holds the mean of a gauge over the pods at its target, with a query at each sync."""

    name: str
    metric: str
    target: float
    every: float = hpa.SYNC_SECONDS
    _hpa: hpa.Hpa = field(default_factory=hpa.Hpa)

    def queries(self) -> Mapping[str, Expression]:
        """Return the gauge of each pod."""
        return {"gauge": Series(self.metric)}

    def decide(self, view: FleetView) -> int:
        """Return the count by the rules of autoscaling/v2."""
        values = readings.by_pod(view, "gauge")
        if isinstance(values, Unknown):
            return self._hpa.sync(view, [values])
        return self._hpa.sync(view, [hpa.pods_metric(view, values, target=self.target)])

    def restarted(self) -> None:
        """The controller manager forgets its windows."""
        self._hpa.restarted()


def waiting(_: model.Parameters, target: float) -> Policy:
    """Return the policy on waiting requests."""
    return PodsHpa("hpa-waiting", contract.WAITING, target)


def kv(_: model.Parameters, target: float) -> Policy:
    """Return the policy on the used share of the KV cache."""
    return PodsHpa("hpa-kv", contract.KV_USAGE, target)
