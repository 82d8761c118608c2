"""A planner like NVIDIA Dynamo's SLA planner: next interval's tokens over profiled throughput, corrected by latency.

Constant predictor, and interpolators that know the engine without error. Dynamo sizes pools for prefill and decode; our
engines do both, so that the two parts of a pool add up to one count.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from slipstream_operator.core.scaling.metrics.promql import Expression
from slipstream_operator.core.scaling.metrics.values import Unknown
from slipstream_runtime import contract
from slipstream_runtime.simulator import model
from slipstream_simulator import readings
from slipstream_simulator.policy import FleetView, Policy

_INTERVAL_SECONDS: Final = 180.0
_MEANS: Final = {
    "isl": readings.PROMPTS,
    "osl": readings.OUTPUTS,
    "ttft": contract.TTFT,
    "itl": contract.ITL,
    "duration": contract.E2E,
}


@dataclass(frozen=True)
class Traffic:
    """Means of one interval: requests, lengths in tokens, latencies in seconds."""

    requests: float
    isl: float
    osl: float
    ttft: float
    itl: float
    duration: float


@dataclass
class Planner:
    """The count for as much traffic as in the last interval."""

    engine: model.Parameters
    share: float
    """Of the TPOT objective, as the knob."""
    name: str = "dynamo-planner"
    every: float = _INTERVAL_SECONDS

    def queries(self) -> Mapping[str, Expression]:
        """Requests, lengths and latencies of one interval."""
        means = {name: readings.mean(metric, self.every) for name, metric in _MEANS.items()}
        return {"requests": readings.arrivals(self.every), **means}

    def decide(self, view: FleetView) -> int:
        """The count, at least one; the same if there was no traffic or it is not known."""
        found = {name: readings.value(view, name) for name in self.queries()}
        known = {name: one for name, one in found.items() if not isinstance(one, Unknown)}
        if len(known) < len(found) or not known["requests"]:
            return readings.bounded(view, view.replicas, floor=1)
        traffic = Traffic(**known)
        replicas = max(1, len(readings.ready(view)))
        need = self._prefill(traffic) + self._decode(traffic, replicas, view)
        return readings.bounded(view, math.ceil(need), floor=1)

    def restarted(self) -> None:
        """The constant predictor needs nothing but the last interval, which Prometheus has."""

    def _prefill(self, traffic: Traffic) -> float:
        """Replicas for the prompts; a correction below 1 means that prefills wait less than thought."""
        chunks = math.ceil(traffic.isl / self.engine.max_batched_tokens)
        alone = chunks * self.engine.alpha + self.engine.delta * traffic.isl
        correction = min(1.0, traffic.ttft / alone)
        return traffic.requests * alone / self.every * correction

    def _decode(self, traffic: Traffic, replicas: int, view: FleetView) -> float:
        """Replicas for the outputs, at the best throughput whose ITL keeps the corrected target."""
        context = traffic.isl + traffic.osl / 2
        token = self.engine.beta + self.engine.gamma * context
        concurrency = traffic.requests / replicas * traffic.duration / self.every
        correction = traffic.itl / (self.engine.alpha + token * concurrency)
        target = readings.target(view.objectives, "tpot") * self.share / correction
        largest = min(self.engine.max_sequences, self.engine.kv_tokens / context)
        batch = max(1.0, min((target - self.engine.alpha) / token, largest))
        throughput = batch / (self.engine.alpha + token * batch)
        return traffic.requests * traffic.osl / self.every / throughput


def planner(engine: model.Parameters, share: float) -> Policy:
    """With the share of the TPOT objective as the knob."""
    return Planner(engine, share)
