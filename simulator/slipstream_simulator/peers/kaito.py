"""KAITO 0.12: waiting requests through its own scaler for KEDA, as its proposal and docs describe it.

The scaler itself was not read. It asks the pods, not Prometheus.
"""

import statistics
from collections.abc import Callable
from typing import Final

from slipstream_operator.core.scaling.metrics.promql import Series
from slipstream_operator.core.scaling.metrics.values import Unknown
from slipstream_runtime import contract
from slipstream_runtime.simulator import model
from slipstream_simulator import readings
from slipstream_simulator.peers import hpa, keda
from slipstream_simulator.policy import FleetView, Policy

_BEHAVIOR: Final = hpa.Behavior(
    up=hpa.Rules(60.0, (hpa.Rate("Pods", 1, 300),)),
    down=hpa.Rules(300.0, (hpa.Rate("Pods", 1, 600),)),
)


def shipped(_: model.Parameters, target: float) -> Policy:
    """The scaler divides by the pods, and the HPA does so again: the average over the target, whatever the count."""
    return keda.Keda("kaito", (_trigger(target, statistics.fmean),), behavior=_BEHAVIOR, floor=1)


def repaired(_: model.Parameters, target: float) -> Policy:
    """The scaler returns the sum."""
    return keda.Keda("kaito-repaired", (_trigger(target, sum),), behavior=_BEHAVIOR, floor=1)


def _trigger(target: float, together: Callable[[list[float]], float]) -> keda.Trigger:
    def read(view: FleetView) -> float | Unknown:
        values = readings.by_pod(view, "waiting")
        if isinstance(values, Unknown):
            return values
        pods = [pod.name for pod in readings.alive(view)]
        reported = [values[pod] for pod in pods if pod in values]
        if not reported:
            return Unknown("no pod answers")
        silent = 0.0 if statistics.fmean(reported) > target else 1.5 * target
        return float(together([*reported, *[silent] * (len(pods) - len(reported))]))

    return keda.Trigger({"waiting": Series(contract.WAITING)}, read, target)
