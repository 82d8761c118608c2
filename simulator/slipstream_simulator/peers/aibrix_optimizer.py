"""AIBrix 0.7.0's GPU optimizer: arrivals by size, divided by the benchmarked rate of each size.

Its profile is perfect here. With one accelerator type, its integer program reduces to the sum of the slices' loads.
Sizes are powers of two. The gateway's trace joins prompt and output. It is rebuilt here from the engines' histograms,
as if the two were independent.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from slipstream_operator.core.scaling.metrics.promql import By, Expression, Over, Series
from slipstream_operator.core.scaling.metrics.values import Unknown
from slipstream_runtime.simulator import model
from slipstream_simulator import readings
from slipstream_simulator.peers import aibrix
from slipstream_simulator.policies import capacity
from slipstream_simulator.policy import FleetView, Policy

_WINDOW_SECONDS, _CURRENT_SECONDS = 240.0, 30.0
"""NB: its buckets are of 10 s; a rate needs two scrapes, so the current rate is that of 30 s."""
_RARE: Final = 0.01
"""Sizes of a smaller share are left out; the others stand for them."""


@dataclass
class Optimizer:
    """The larger of the window's and the current load, in replicas, through KPA's step limits and cool-down."""

    name: str
    engine: model.Parameters
    share: float
    repaired: bool = False
    every: float = aibrix.RESYNC_SECONDS
    _stabilization: aibrix.Stabilization = field(init=False)
    _begun: bool = False
    """False until a first request: the trace of a fleet that was just made is empty, and means nothing."""

    def __post_init__(self) -> None:
        self._stabilization = aibrix.Stabilization(self.repaired)

    def queries(self) -> Mapping[str, Expression]:
        """Arrivals, and the sizes of what completed."""
        sizes = {"prompt": readings.PROMPTS, "output": readings.OUTPUTS}
        return {
            "window": readings.arrivals(_WINDOW_SECONDS),
            "current": readings.arrivals(_CURRENT_SECONDS),
            **{name: _buckets(metric) for name, metric in sizes.items()},
        }

    def decide(self, view: FleetView) -> int:
        """The count; once there were requests, a window without any goes to the minimum, as shipped."""
        window = readings.value_or_zero(view, "window")
        current = readings.value_or_zero(view, "current")
        if isinstance(window, Unknown) or isinstance(current, Unknown):
            return view.replicas
        rate = max(window / _WINDOW_SECONDS, current / _CURRENT_SECONDS)
        self._begun = self._begun or rate > 0
        if not self._begun:
            return readings.bounded(view, view.replicas)
        if not view.replicas:
            return max(view.minimum, 1 if rate > 0 and not view.minimum else 0)
        seconds = self._seconds(view)
        if rate > 0 and seconds is None:
            return view.replicas
        wanted = math.ceil(rate * (seconds or 0.0) / self.share)
        return self._stabilization.settle(view, aibrix.stepped(view.replicas, wanted))

    def restarted(self) -> None:
        """The advice is in memory; the trace is in Redis."""
        self._stabilization.clear()

    def _seconds(self, view: FleetView) -> float | None:
        """Seconds of a replica that the mean request takes; None before any was completed."""
        prompts, outputs = _shares(view, "prompt"), _shares(view, "output")
        if not prompts or not outputs:
            return None
        return sum(
            share
            * other
            / capacity.rate(self.engine, view.objectives, prompt=prompt, output=output)
            for prompt, share in prompts.items()
            for output, other in outputs.items()
        )


def shipped(engine: model.Parameters, share: float) -> Policy:
    """With the link from optimizer to autoscaler made to work: as shipped it reads 0."""
    return Optimizer("aibrix-optimizer", engine, share)


def repaired(engine: model.Parameters, share: float) -> Policy:
    """Scale-down by the highest advice of the window."""
    return Optimizer("aibrix-optimizer-repaired", engine, share, repaired=True)


def _buckets(histogram: str) -> Expression:
    return By("sum", ("le",), Over("increase", Series(f"{histogram}_bucket"), _WINDOW_SECONDS))


def _shares(view: FleetView, query: str) -> Mapping[int, float]:
    """Size as a power of two -> share of the requests; a bucket between two powers counts for both."""
    result = view.samples[query]
    if isinstance(result, Unknown):
        return {}
    found: dict[int, float] = {}
    below, low = 0.0, 1.0
    for bound, count in sorted((float(one.labels["le"]), one.value) for one in result):
        middle = math.sqrt(low * bound) if math.isfinite(bound) else low
        power = math.log2(max(1.0, middle))
        lower = math.floor(power)
        for size, part in ((2**lower, lower + 1 - power), (2 ** (lower + 1), power - lower)):
            found[size] = found.get(size, 0.0) + part * max(0.0, count - below)
        below, low = max(below, count), max(bound, 1.0)
    total = sum(found.values())
    kept = {size: count for size, count in found.items() if count > _RARE * total}
    return {size: count / sum(kept.values()) for size, count in kept.items()}
