"""WVA 0.5.1, saturation engine V1, its default: one replica more or less by spare KV cache and queue."""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from slipstream_operator.core.scaling.metrics.promql import By, Expression, Over, Series
from slipstream_operator.core.scaling.metrics.values import Unknown
from slipstream_runtime import contract
from slipstream_runtime.simulator import model
from slipstream_simulator import readings
from slipstream_simulator.peers import wva
from slipstream_simulator.policy import FleetView, Policy

QUEUE_THRESHOLD: Final = 5.0
_KV_SPARE, _QUEUE_SPARE = 0.10, 3.0


def peaks() -> Mapping[str, Expression]:
    """The highest KV usage and queue of each pod in the last minute."""
    gauges = {"kv": contract.KV_USAGE, "queue": contract.WAITING}
    return {
        name: By("max", ("pod",), Over("max_over_time", Series(metric), 60.0))
        for name, metric in gauges.items()
    }


def per_pod(view: FleetView) -> Mapping[str, tuple[float, float]]:
    """KV usage and queue of the pods that have either series; NaN and a missing series are 0, as shipped."""
    kv, queue = (readings.by_pod(view, name, invalid=0.0) for name in ("kv", "queue"))
    if isinstance(kv, Unknown) or isinstance(queue, Unknown):
        return {}
    return {pod: (kv.get(pod, 0.0), queue.get(pod, 0.0)) for pod in {**kv, **queue}}


@dataclass
class SaturationV1:
    """Frozen while the count is not the desired one, or not every replica reports."""

    kv_threshold: float
    every: float = 30.0

    def queries(self) -> Mapping[str, Expression]:
        """Peaks of one minute."""
        return peaks()

    def desired(self, view: FleetView, last: int) -> int:
        """One more, one less, or what it was."""
        pods = per_pod(view)
        current = view.replicas
        if not pods or last != current or len(pods) != current:
            return last
        calm = [
            (kv, queue)
            for kv, queue in pods.values()
            if kv < self.kv_threshold and queue < QUEUE_THRESHOLD
        ]
        if self._scarce(calm):
            return current + 1
        if len(calm) >= 2 and not self._scarce(calm, factor=len(calm) / (len(calm) - 1)):
            return max(1, current - 1)
        return current

    def restarted(self) -> None:
        """It keeps nothing."""

    def _scarce(self, calm: list[tuple[float, float]], factor: float = 1.0) -> bool:
        """Whether the replicas that are not saturated have too little to spare, at `factor` times their load."""
        if not calm:
            return True
        kv = self.kv_threshold - factor * statistics.fmean(one[0] for one in calm)
        queue = QUEUE_THRESHOLD - factor * statistics.fmean(one[1] for one in calm)
        return kv < _KV_SPARE or queue < _QUEUE_SPARE


def shipped(_: model.Parameters, kv_threshold: float) -> Policy:
    """With the chart's HPA."""
    return wva.Pipeline("wva-v1", SaturationV1(kv_threshold))


def without_window(_: model.Parameters, kv_threshold: float) -> Policy:
    """With an HPA that does not wait."""
    return wva.Pipeline("wva-v1-no-window", SaturationV1(kv_threshold), window=0.0)
