"""HorizontalPodAutoscaler, autoscaling/v2: proposals of its metrics, and the rules that limit them.

Semantics: kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale and replica_calculator.go, horizontal.go of
kube-controller-manager 1.33.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from slipstream_operator.core.scaling.metrics.values import Unknown
from slipstream_simulator import readings
from slipstream_simulator.policy import FleetView

SYNC_SECONDS: Final = 15.0
_TOLERANCE: Final = 0.1


@dataclass(frozen=True)
class Rate:
    """At most `value` pods, or percent of the pods, in `seconds`."""

    kind: Literal["Pods", "Percent"]
    value: float
    seconds: float


@dataclass(frozen=True)
class Rules:
    """Behavior of one direction: stabilization window in seconds, and rates of which the fastest counts."""

    window: float
    rates: tuple[Rate, ...]


@dataclass(frozen=True)
class Behavior:
    """`spec.behavior`, with Kubernetes' defaults."""

    up: Rules = Rules(0.0, (Rate("Pods", 4, 15), Rate("Percent", 100, 15)))
    down: Rules = Rules(300.0, (Rate("Percent", 100, 15),))


DEFAULT: Final = Behavior()


def pods_metric(view: FleetView, values: Mapping[str, float], *, target: float) -> int | Unknown:
    """Return the proposal of a metric of type Pods: silent pods count against the direction of the others."""
    pods = readings.alive(view)
    unready = [pod.name for pod in pods if not pod.scheduled]
    usage = {pod.name: values[pod.name] for pod in pods if pod.scheduled and pod.name in values}
    missing = [pod.name for pod in pods if pod.scheduled and pod.name not in values]
    if not usage:
        return Unknown("no pod reports")
    ratio = _ratio(usage, target)
    counts_unready = bool(unready) and ratio > 1
    if not counts_unready and not missing:
        return view.replicas if _within(ratio) else math.ceil(ratio * len(usage))
    usage.update(dict.fromkeys(missing, target if ratio < 1 else 0.0))
    if counts_unready:
        usage.update(dict.fromkeys(unready, 0.0))
    corrected = _ratio(usage, target)
    turned = (corrected - 1) * (ratio - 1) < 0
    wanted = math.ceil(corrected * len(usage))
    if _within(corrected) or turned or (wanted - view.replicas) * (corrected - 1) < 0:
        return view.replicas
    return wanted


def average_value(view: FleetView, total: float, *, target: float) -> int:
    """Return the proposal of an external metric of type AverageValue: the number of pods that share `total`."""
    pods = len(readings.alive(view))
    if pods and _within(total / (target * pods)):
        return pods
    return math.ceil(total / target)


def value(view: FleetView, measured: float, *, target: float) -> int:
    """Return the proposal of an external metric of type Value: ready pods times its ratio to the target."""
    ratio = measured / target
    if not view.replicas:
        return math.ceil(ratio)
    return view.replicas if _within(ratio) else math.ceil(ratio * len(readings.ready(view)))


def _ratio(usage: Mapping[str, float], target: float) -> float:
    return sum(usage.values()) / len(usage) / target


def _within(ratio: float) -> bool:
    return abs(ratio - 1) <= _TOLERANCE


@dataclass
class Hpa:
    """State of one autoscaler; it is lost when the controller manager restarts."""

    behavior: Behavior = DEFAULT
    _advised: list[tuple[float, int]] = field(default_factory=list)
    _changes: list[tuple[float, int]] = field(default_factory=list)

    def sync(self, view: FleetView, proposals: Sequence[int | Unknown]) -> int:
        """Return the replicas to request, from each metric's proposal; at least one."""
        current = view.replicas
        minimum = max(1, view.minimum)
        if not minimum <= current <= view.maximum:
            wanted = min(max(current, minimum), view.maximum)
        else:
            proposed = _combined(proposals, current)
            wanted = current if proposed is None else self._tamed(view, proposed, minimum)
        if wanted != current:
            self._changes.append((view.now, wanted - current))
        return wanted

    def restarted(self) -> None:
        """Drop recommendations and changes: the windows start over with the present count."""
        self._advised.clear()
        self._changes.clear()

    def _tamed(self, view: FleetView, proposed: int, minimum: int) -> int:
        """Stabilised by the windows, then limited by the rates."""
        now, current = view.now, view.replicas
        up, down = self.behavior.up, self.behavior.down
        if not self._advised:
            self._advised.append((now, current))
        longest = max(up.window, down.window)
        self._advised = [one for one in self._advised if one[0] > now - longest]
        lowest = min([proposed, *(n for time, n in self._advised if time > now - up.window)])
        highest = max([proposed, *(n for time, n in self._advised if time > now - down.window)])
        self._advised.append((now, proposed))
        stable = min(max(current, lowest), highest)
        if stable > current:
            limit = max(self._limit(rate, now, current, up=True) for rate in up.rates)
            stable = min(stable, max(limit, current), view.maximum)
        elif stable < current:
            limit = min(self._limit(rate, now, current, up=False) for rate in down.rates)
            stable = max(stable, min(limit, current), minimum)
        return stable

    def _limit(self, rate: Rate, now: float, current: int, *, up: bool) -> int:
        """Return the count that a rate allows, from the count at the start of the period."""
        self._changes = [one for one in self._changes if one[0] > now - 1800]
        start = current - sum(change for time, change in self._changes if time > now - rate.seconds)
        if rate.kind == "Pods":
            return start + int(rate.value) if up else start - int(rate.value)
        share = rate.value / 100
        return math.ceil(start * (1 + share)) if up else int(start * (1 - share))


def _combined(proposals: Sequence[int | Unknown], current: int) -> int | None:
    """Return the largest proposal; None if no metric is known, or one is unknown and the others propose less."""
    known = [one for one in proposals if not isinstance(one, Unknown)]
    if not known or (len(known) < len(proposals) and max(known) < current):
        return None
    return max(known)
