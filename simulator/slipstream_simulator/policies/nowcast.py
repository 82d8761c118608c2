"""Nowcast: a bound without foresight, which knows all arrivals up to the last scrape."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from slipstream_operator.core.scaling.metrics.promql import Age, Binary, By, Expression, Series
from slipstream_operator.core.scaling.metrics.values import Unknown
from slipstream_runtime import contract
from slipstream_simulator import readings
from slipstream_simulator.policies.schedule import Schedule
from slipstream_simulator.policy import FleetView

_AGE: Final = "age"
_HELD_SECONDS: Final = 60.0
"""Seconds over which the highest need counts, since load varies between two scrapes."""
_DRAIN_SECONDS: Final = 60.0
"""Seconds in which the backlog is drained; clients don't wait longer."""


@dataclass
class Nowcast:
    """Policy that requests the replicas needed before the last scrape, plus those that drain the backlog."""

    need: Schedule
    """Replicas that each window's load keeps busy; a window is the time between two scrapes."""
    name: str = "nowcast"
    every: float = 5.0
    _known: float = 0.0
    """Time of the last scrape in seconds."""
    _owed: float = 0.0
    """Backlog in replica-seconds."""

    def queries(self) -> Mapping[str, Expression]:
        """Ask for the age of the newest sample of an engine or the router."""
        ages = Binary(Age(Series(contract.RUNNING)), "or", Age(Series(contract.ROUTER_REQUESTS)))
        return {_AGE: By("min", (), ages)}

    def decide(self, view: FleetView) -> int:
        """Return the number of replicas that the known load needs, plus those that drain the queue."""
        age = view.samples[_AGE]
        if not isinstance(age, Unknown) and age:
            self._known = max(self._known, view.now - age[0].value)
        # NB: what comes in the window that has begun is not known.
        before = self._known - self.need.window
        windows = range(math.ceil(_HELD_SECONDS / self.need.window))
        present, *_ = needs = [self.need.at(before - self.need.window * one) for one in windows]
        ready = sum(pod.ready and not pod.terminating for pod in view.pods)
        owed = self._owed + (present - ready) * self.every
        self._owed = min(max(0.0, owed), present * _DRAIN_SECONDS)
        return readings.bounded(view, max(needs) + math.ceil(self._owed / _DRAIN_SECONDS))

    def restarted(self) -> None:
        """Nothing is lost, since all is queried again."""
