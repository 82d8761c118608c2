"""Knative's KPA: concurrency over a stable and a panic window."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from slipstream_operator.core.scaling.metrics.promql import Expression
from slipstream_operator.core.scaling.metrics.values import Unknown
from slipstream_runtime.simulator import model
from slipstream_simulator import readings
from slipstream_simulator.peers.window import Window
from slipstream_simulator.policy import FleetView, Policy

_TICK_SECONDS: Final = 2.0
_STABLE_SECONDS, _PANIC_SECONDS, _GRACE_SECONDS = 60.0, 6.0, 30.0
_PANIC_RATIO: Final = 2.0
_UP_RATE, _DOWN_RATE = 1000.0, 2.0


@dataclass
class Knative:
    """Policy of total concurrency over one pod's target; in panic it uses the short window and never scales down."""

    target: float
    name: str = "knative-kpa"
    every: float = _TICK_SECONDS
    _concurrency: Window = field(default_factory=lambda: Window(_STABLE_SECONDS))
    _panicked: float | None = None
    _most: int = 0
    _idle_since: float | None = None

    def queries(self) -> Mapping[str, Expression]:
        """Requests in flight: those in the pods and those that the activator buffers."""
        return {"in_flight": readings.in_flight()}

    def decide(self, view: FleetView) -> int:
        """Return the count; the present one while nothing reports."""
        active = readings.value(view, "in_flight")
        if isinstance(active, Unknown):
            return view.replicas
        self._concurrency.add(view.now, active)
        if not view.replicas and active:
            return max(1, view.minimum)
        ready = max(1, len(readings.ready(view)))
        stable = self._wanted(view, ready, _STABLE_SECONDS)
        panic = self._wanted(view, ready, _PANIC_SECONDS)
        return self._settled(view, self._calmed(view, ready, stable, panic))

    def restarted(self) -> None:
        """Windows and panic are in the memory of the autoscaler only."""
        self._concurrency.clear()
        self._panicked, self._most, self._idle_since = None, 0, None

    def _wanted(self, view: FleetView, ready: int, window: float) -> int:
        wanted = math.ceil(self._concurrency.mean(view.now, window) / self.target)
        return min(max(wanted, math.floor(ready / _DOWN_RATE)), math.ceil(ready * _UP_RATE))

    def _calmed(self, view: FleetView, ready: int, stable: int, panic: int) -> int:
        """Return the stable count, or in panic the highest count since the panic began."""
        if panic / ready >= _PANIC_RATIO:
            self._panicked = view.now
        elif self._panicked is not None and view.now - self._panicked >= _STABLE_SECONDS:
            self._panicked, self._most = None, 0
        if self._panicked is None:
            return stable
        self._most = max(self._most, ready, stable, panic)
        return self._most

    def _settled(self, view: FleetView, wanted: int) -> int:
        """Return the count within the limits; zero only after the grace period."""
        if wanted or view.minimum:
            self._idle_since = None
            return readings.bounded(view, wanted)
        if self._idle_since is None:
            self._idle_since = view.now
        waited = view.now - self._idle_since >= _GRACE_SECONDS
        return 0 if waited else min(view.replicas, 1)


def shipped(_: model.Parameters, target: float) -> Policy:
    """With the concurrency of a pod as the knob; 100 at 70 % as shipped."""
    return Knative(target)
