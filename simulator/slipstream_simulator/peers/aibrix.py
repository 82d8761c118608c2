"""AIBrix 0.7.0: APA and KPA on the mean KV usage of the pods, which the controller itself scrapes.

With `vllm:kv_cache_usage_perc`, since the metric of its samples is gone from vLLM. That it asks Prometheus here is the
simulator's way; an outage of Prometheus therefore leaves its count alone.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from slipstream_operator.core.scaling.metrics.promql import Expression, Series
from slipstream_operator.core.scaling.metrics.values import Unknown
from slipstream_runtime import contract
from slipstream_runtime.simulator import model
from slipstream_simulator import readings
from slipstream_simulator.peers.window import Window
from slipstream_simulator.policy import FleetView, Policy

RESYNC_SECONDS: Final = 10.0
_STABLE_SECONDS, _PANIC_SECONDS, _COOLDOWN_SECONDS = 180.0, 60.0, 300.0
_RATE: Final = 2.0
_TOLERANCE: Final = 0.1
_PANIC_RATIO: Final = 2.0


@dataclass
class Stabilization:
    """The down cool-down of 300 s; as shipped the lowest advice of the window decides, repaired the highest."""

    repaired: bool
    floor: int = 0
    _advised: Window = field(default_factory=lambda: Window(_COOLDOWN_SECONDS))

    def settle(self, view: FleetView, wanted: int) -> int:
        """The count, within the limits."""
        self._advised.add(view.now, wanted)
        if wanted >= view.replicas:
            return readings.bounded(view, wanted, floor=self.floor)
        advised = self._advised.values(view.now)
        settled = min(view.replicas, max(advised)) if self.repaired else min(advised)
        return readings.bounded(view, int(settled), floor=self.floor)

    def clear(self) -> None:
        """Forget all advice."""
        self._advised.clear()


def stepped(replicas: int, wanted: int) -> int:
    """At most twice as many, at least half."""
    return min(max(wanted, math.floor(replicas / _RATE)), math.ceil(_RATE * replicas))


class Law(Protocol):
    """One mode: the count from the means of usage over the stable and the panic window."""

    def __call__(self, stable: float, panic: float, *, replicas: int, target: float) -> int:
        """The replicas to have."""


@dataclass
class Aibrix:
    """Means of the usage of all pods, silent ones as 0 unless repaired, through a law and the stabilisation."""

    name: str
    law: Law
    target: float
    repaired: bool = False
    every: float = RESYNC_SECONDS
    _usage: Window = field(default_factory=lambda: Window(_STABLE_SECONDS))
    _stabilization: Stabilization = field(init=False)

    def __post_init__(self) -> None:
        self._stabilization = Stabilization(self.repaired, floor=1)

    def queries(self) -> Mapping[str, Expression]:
        """KV usage by pod."""
        return {"kv": Series(contract.KV_USAGE)}

    def decide(self, view: FleetView) -> int:
        """The count, at least one: without pods there is nothing that could wake it."""
        values = readings.by_pod(view, "kv")
        if isinstance(values, Unknown):
            return view.replicas
        if not view.replicas:
            return max(1, view.minimum)
        pods = [pod.name for pod in readings.alive(view)]
        usage = [values.get(pod, 0.0) for pod in pods if pod in values or not self.repaired]
        if not usage:
            return view.replicas
        self._usage.add(view.now, sum(usage) / len(usage))
        stable, panic = self._usage.mean(view.now), self._usage.mean(view.now, _PANIC_SECONDS)
        base = len(usage) if self.repaired else view.replicas
        wanted = self.law(stable, panic, replicas=base, target=self.target)
        if base <= wanted < view.replicas:
            wanted = view.replicas  # what starts is on its way to help
        settled = self._stabilization.settle(view, wanted)
        if settled != view.replicas and self.repaired:
            self._usage.clear()
        return settled

    def restarted(self) -> None:
        """The windows are in memory."""
        self._usage.clear()
        self._stabilization.clear()


def proportional(stable: float, panic: float, *, replicas: int, target: float) -> int:
    """APA: the present count times usage over target, outside a tolerance of 10 %; it knows no panic."""
    ratio = stable / target
    if abs(ratio - 1) <= _TOLERANCE:
        return replicas
    return stepped(replicas, math.ceil(replicas * ratio))


def mean_over_target(stable: float, panic: float, *, replicas: int, target: float) -> int:
    """KPA as shipped: the mean over the pods is taken for their sum."""
    usage = panic if _panicking(stable, panic) else stable
    return stepped(replicas, math.ceil(usage / target))


def sum_over_target(stable: float, panic: float, *, replicas: int, target: float) -> int:
    """KPA repaired: the sum, and no way down in panic."""
    if _panicking(stable, panic):
        return stepped(replicas, max(replicas, math.ceil(panic * replicas / target)))
    return stepped(replicas, math.ceil(stable * replicas / target))


def _panicking(stable: float, panic: float) -> bool:
    return stable <= 0 or panic / stable > _PANIC_RATIO


def apa(_: model.Parameters, target: float) -> Policy:
    """As shipped."""
    return Aibrix("aibrix-apa", proportional, target)


def apa_repaired(_: model.Parameters, target: float) -> Policy:
    """APA without its faults: ignores silent pods, restarts the window after a change, scales down by the peak."""
    return Aibrix("aibrix-apa-repaired", proportional, target, repaired=True)


def kpa(_: model.Parameters, target: float) -> Policy:
    """As shipped."""
    return Aibrix("aibrix-kpa", mean_over_target, target)


def kpa_repaired(_: model.Parameters, target: float) -> Policy:
    """The same repairs, and the sum of the pods' usage."""
    return Aibrix("aibrix-kpa-repaired", sum_over_target, target, repaired=True)
