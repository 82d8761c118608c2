"""WVA 0.5.1, saturation engine V2 (opt-in): tokens that are needed, over tokens that a replica holds."""

import math
import statistics
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from slipstream_operator.core.scaling.metrics.promql import Binary, By, Expression, Over, Series
from slipstream_operator.core.scaling.metrics.values import Unknown
from slipstream_runtime import contract
from slipstream_runtime.simulator import model
from slipstream_simulator import readings
from slipstream_simulator.peers import wva, wva_v1
from slipstream_simulator.policy import FleetView, Policy

_KV_SHARE: Final = 0.80
_HYSTERESIS: Final = 0.15
"""Between the thresholds of scale-up (0.85 as shipped) and scale-down (0.70)."""
_KEPT: Final = 10


@dataclass
class SaturationV2:
    """Learns what a replica holds from moments of saturation; until then it reckons from the engine's arguments."""

    engine: model.Parameters
    threshold: float
    every: float = 30.0
    _seen_full: dict[str, deque[float]] = field(default_factory=dict)

    def queries(self) -> Mapping[str, Expression]:
        """Peaks of one minute, KV capacity, and mean lengths of five minutes."""
        sizes = By("max", ("pod", "num_gpu_blocks", "block_size"), Series(contract.CACHE_INFO))
        lengths = {"prompt": readings.PROMPTS, "output": readings.OUTPUTS}
        return {
            **wva_v1.peaks(),
            "sizes": sizes,
            **{name: _mean_by_pod(metric) for name, metric in lengths.items()},
        }

    def desired(self, view: FleetView, last: int) -> int:
        """As many as the demand needs at once, in either direction."""
        pods = wva_v1.per_pod(view)
        sizes = _kv_tokens(view)
        known = {pod: load for pod, load in pods.items() if pod in sizes}
        if not known:
            return last
        prompt, output = _mean(view, "prompt"), _mean(view, "output")
        demand, capacities = 0.0, []
        for pod, (kv, queue) in known.items():
            demand += kv * sizes[pod] + queue * prompt
            capacities.append(self._capacity(sizes[pod], kv, queue, prompt, output))
        capacity = max(1.0, statistics.median(capacities))
        ready = len(readings.ready(view))
        pending = len(readings.alive(view)) - ready
        required = demand / self.threshold - (ready + pending) * capacity
        if required > 0:
            return ready + pending + math.ceil(required / capacity)
        spare = ready * capacity - demand / (self.threshold - _HYSTERESIS)
        return max(1, ready + pending - max(0, math.floor(spare / capacity)))

    def restarted(self) -> None:
        """Forget the learned capacity, which is in memory only."""
        self._seen_full.clear()

    def _capacity(
        self, tokens: float, kv: float, queue: float, prompt: float, output: float
    ) -> float:
        """The lesser of what the memory and what the computation allows."""
        memory = _KV_SHARE * tokens
        key = "short" if output < 100 else "medium" if output < 500 else "long"
        history = self._seen_full.setdefault(key, deque(maxlen=_KEPT))
        if queue >= wva_v1.QUEUE_THRESHOLD:
            history.append(kv * tokens)
            return min(memory, kv * tokens)
        if history:
            return min(memory, statistics.fmean(history))
        if not prompt + output:
            return memory
        steady = min(
            self.engine.max_batched_tokens * output / (prompt + output), self.engine.max_sequences
        )
        return min(memory, steady * (prompt + output / 2)) if steady else memory


def shipped(engine: model.Parameters, threshold: float) -> Policy:
    """With the chart's HPA."""
    return wva.Pipeline("wva-v2", SaturationV2(engine, threshold))


def without_window(engine: model.Parameters, threshold: float) -> Policy:
    """With an HPA that does not wait."""
    return wva.Pipeline("wva-v2-no-window", SaturationV2(engine, threshold), window=0.0)


def _mean_by_pod(histogram: str) -> Expression:
    total = Over("rate", Series(f"{histogram}_sum"), 300.0)
    count = Over("rate", Series(f"{histogram}_count"), 300.0)
    return Binary(By("max", ("pod",), total), "/", By("max", ("pod",), count))


def _mean(view: FleetView, query: str) -> float:
    values = readings.by_pod(view, query)
    return 0.0 if isinstance(values, Unknown) or not values else statistics.fmean(values.values())


def _kv_tokens(view: FleetView) -> Mapping[str, float]:
    result = view.samples["sizes"]
    if isinstance(result, Unknown):
        return {}
    return {
        sample.labels["pod"]: float(sample.labels["num_gpu_blocks"])
        * float(sample.labels["block_size"])
        for sample in result
    }
