"""KEDA 2: its own loop between zero and one, and a HorizontalPodAutoscaler above.

The HPA reads the triggers directly, so the only lag is that of Prometheus. Semantics:
keda.sh/docs/2.17, concepts/scaling-deployments and scalers/prometheus.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from slipstream_operator.core.scaling.metrics.promql import Expression
from slipstream_operator.core.scaling.metrics.values import Unknown
from slipstream_simulator.peers import hpa
from slipstream_simulator.policy import FleetView

_POLLING_SECONDS: Final = 30.0
_COOLDOWN_SECONDS: Final = 300.0

Kind: TypeAlias = Literal["AverageValue", "Value"]


@dataclass(frozen=True)
class Trigger:
    """Metric: how it is read, and the HPA's target for it."""

    queries: Mapping[str, Expression]
    read: Callable[[FleetView], float | Unknown]
    threshold: float
    kind: Kind = "AverageValue"
    scales: bool = True
    """Whether it gives a count; a trigger that doesn't only wakes the service."""

    def proposal(self, view: FleetView, measured: float | Unknown) -> int | Unknown:
        """Return the HPA's proposal for the trigger."""
        if isinstance(measured, Unknown):
            return measured
        if self.kind == "Value":
            return hpa.value(view, measured, target=self.threshold)
        return hpa.average_value(view, measured, target=self.threshold)


def prometheus(
    name: str,
    query: Expression,
    *,
    threshold: float,
    kind: Kind = "AverageValue",
    ignore_null_values: bool = True,
) -> Trigger:
    """Return the scaler `prometheus`: an empty result is 0 by default, more than one series is an error."""

    def read(view: FleetView) -> float | Unknown:
        result = view.samples[name]
        if isinstance(result, Unknown):
            return result
        if len(result) > 1:
            return Unknown(f"query {name} returned {len(result)} series")
        if result and math.isfinite(result[0].value):
            return result[0].value
        return 0.0 if ignore_null_values else Unknown(f"query {name} returned nothing")

    return Trigger({name: query}, read, threshold, kind)


@dataclass(frozen=True)
class Fallback:
    """The count while a trigger has failed more than `failures` times in a row."""

    failures: int
    replicas: int


@dataclass
class Keda:
    """One ScaledObject."""

    name: str
    triggers: tuple[Trigger, ...]
    behavior: hpa.Behavior = hpa.DEFAULT
    cooldown: float = _COOLDOWN_SECONDS
    floor: int = 0
    """1 where no trigger could wake it from zero."""
    fallback: Fallback | None = None
    every: float = hpa.SYNC_SECONDS
    _hpa: hpa.Hpa = field(init=False)
    _polled: float = -math.inf
    _active: float | None = None
    _failures: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self._hpa = hpa.Hpa(self.behavior)
        self._failures = [0] * len(self.triggers)

    def queries(self) -> Mapping[str, Expression]:
        """Return the queries of all triggers."""
        return {name: query for trigger in self.triggers for name, query in trigger.queries.items()}

    def decide(self, view: FleetView) -> int:
        """Return KEDA's count between zero and one, and the HPA's count above."""
        measured = [trigger.read(view) for trigger in self.triggers]
        if view.now - self._polled >= _POLLING_SECONDS:
            self._polled = view.now
            idle = self._idle(view, measured)
            if not view.replicas:
                return max(view.minimum, self.floor, 0 if idle else 1)
            if idle and not max(view.minimum, self.floor):
                return 0
        if not view.replicas:
            return 0
        return self._hpa.sync(view, self._proposals(view, measured))

    def restarted(self) -> None:
        """The HPA forgets its windows; times and failures are in the status of the ScaledObject."""
        self._hpa.restarted()

    def _idle(self, view: FleetView, measured: list[float | Unknown]) -> bool:
        """Whether no trigger was active during the cooldown; a failing trigger keeps a running service up."""
        known = [one for one in measured if not isinstance(one, Unknown)]
        active = any(one > 0 for one in known)
        if active or self._active is None:
            self._active = view.now
        if not view.replicas:
            return not active
        return len(known) == len(measured) and view.now - self._active >= self.cooldown

    def _proposals(self, view: FleetView, measured: list[float | Unknown]) -> list[int | Unknown]:
        proposals: list[int | Unknown] = []
        for index, (trigger, one) in enumerate(zip(self.triggers, measured, strict=True)):
            failed = isinstance(one, Unknown)
            self._failures[index] = self._failures[index] + 1 if failed else 0
            fallback = self.fallback
            if fallback and self._failures[index] > fallback.failures:
                proposals.append(fallback.replicas)
            elif trigger.scales:
                proposals.append(trigger.proposal(view, one))
        return proposals
