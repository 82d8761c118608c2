"""Fixed number of replicas, sized for the mean or the peak of the traffic."""

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from slipstream_operator.core.scaling.metrics.promql import Expression
from slipstream_simulator import traffic
from slipstream_simulator.kernel.layout import Floats
from slipstream_simulator.policy import FleetView, Policy
from slipstream_simulator.scenarios import Scenario

_UTILIZATION: Final = 0.7
"""Target utilization of capacity planning; the rest is for bursts."""
_WINDOW_SECONDS: Final = 60.0


@dataclass
class Static:
    """Policy with a constant count."""

    name: str
    replicas: int
    every: float = 60.0

    def queries(self) -> Mapping[str, Expression]:
        """Return no query."""
        return {}

    def decide(self, view: FleetView) -> int:
        """Return the count within the limits."""
        return min(max(self.replicas, view.minimum), view.maximum)

    def restarted(self) -> None:
        """Nothing is lost, since there is no state."""


def mean(scenario: Scenario) -> Policy:
    """Return the policy that is sized for the mean load."""
    return Static("static-mean", _replicas(float(np.mean(_work(scenario)))))


def peak(scenario: Scenario) -> Policy:
    """Return the policy that is sized for the busiest minute."""
    return Static("static-peak", _replicas(float(np.max(_work(scenario)))))


def _replicas(work: float) -> int:
    return max(1, math.ceil(work / _UTILIZATION))


@functools.lru_cache(maxsize=32)
def _work(scenario: Scenario) -> Floats:
    """Return the replicas that each minute keeps busy, from the scenario's traffic.

    A replica runs at its best batch size: a token takes `beta + gamma k`, plus its share of alpha.
    """
    records = traffic.requests(scenario, seed=0)
    engine = scenario.engine
    length = records["prompt"] + records["output"] / 2.0
    batch = min(engine.max_sequences, 0.9 * engine.kv_tokens / max(1.0, float(np.mean(length))))
    token = engine.alpha / batch + engine.beta + engine.gamma * length
    seconds = engine.delta * records["prompt"] + token * records["output"]
    minutes = math.ceil(scenario.duration / _WINDOW_SECONDS)
    busy = np.bincount(
        (records["arrival"] / _WINDOW_SECONDS).astype(np.int64), weights=seconds, minlength=minutes
    )
    return busy / _WINDOW_SECONDS
