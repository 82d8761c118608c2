"""A HorizontalPodAutoscaler on one gauge of the engines, by the Prometheus adapter: what most teams begin with."""

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
    """Holds the mean of a gauge over the pods at its target; the adapter asks Prometheus at each sync."""

    name: str
    metric: str
    target: float
    every: float = hpa.SYNC_SECONDS
    _hpa: hpa.Hpa = field(default_factory=hpa.Hpa)

    def queries(self) -> Mapping[str, Expression]:
        """The gauge of each pod."""
        return {"gauge": Series(self.metric)}

    def decide(self, view: FleetView) -> int:
        """The count by the rules of autoscaling/v2."""
        values = readings.by_pod(view, "gauge")
        if isinstance(values, Unknown):
            return self._hpa.sync(view, [values])
        return self._hpa.sync(view, [hpa.pods_metric(view, values, target=self.target)])

    def restarted(self) -> None:
        """The controller manager forgets its windows."""
        self._hpa.restarted()


def waiting(_: model.Parameters, target: float) -> Policy:
    """On the requests that wait."""
    return PodsHpa("hpa-waiting", contract.WAITING, target)


def kv(_: model.Parameters, target: float) -> Policy:
    """On the used share of the KV cache."""
    return PodsHpa("hpa-kv", contract.KV_USAGE, target)
