"""OME 0.1.5: the example of its docs, the median time per output token as a trigger of KEDA."""

import math

from slipstream_operator.core import histograms
from slipstream_operator.core.scaling.metrics.promql import By, Over, Series
from slipstream_operator.core.scaling.metrics.values import Unknown
from slipstream_runtime import contract
from slipstream_runtime.simulator import model
from slipstream_simulator.peers import keda
from slipstream_simulator.policy import FleetView, Policy


def shipped(_: model.Parameters, target: float) -> Policy:
    """A latency as AverageValue: its ratio to the target is the count, whatever the count is now."""
    return keda.Keda("ome-tpot", (_trigger(target, "AverageValue"),), floor=1)


def repaired(_: model.Parameters, target: float) -> Policy:
    """The same as Value: the ready pods times the ratio."""
    return keda.Keda("ome-tpot-repaired", (_trigger(target, "Value"),), floor=1)


def _trigger(target: float, kind: keda.Kind) -> keda.Trigger:
    buckets = By("sum", ("le",), Over("rate", Series(f"{contract.TPOT}_bucket"), 300.0))

    def read(view: FleetView) -> float | Unknown:
        result = view.samples["buckets"]
        if isinstance(result, Unknown):
            return result
        pairs = [
            (float(sample.labels["le"]), sample.value)
            for sample in result
            if math.isfinite(sample.value)
        ]
        return histograms.linear_quantile(histograms.from_buckets(pairs), 0.5) or 0.0

    return keda.Trigger({"buckets": buckets}, read, target, kind)
