"""What can be attained by who knows the load exactly as it was at the last scrape, and nothing of what comes."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from slipstream_operator.core.scaling.promql import Age, Binary, By, Expression, Series
from slipstream_operator.core.scaling.signals import Unknown
from slipstream_operator.simulator.policies import readings
from slipstream_operator.simulator.policies.policy import Seen
from slipstream_operator.simulator.policies.schedule import Schedule
from slipstream_runtime import contract

_AGE: Final = "age"
_DRAIN_SECONDS: Final = 60.0
"""What came too late is worked off in this time; clients don't wait for longer."""


@dataclass
class Nowcast:
    """Asks for what was needed at the last scrape, and for as many more as what was not served since still needs."""

    need: Schedule
    """The replicas that each window's load keeps busy."""
    name: str = "nowcast"
    every: float = 5.0
    _known: float = 0.0
    """The time of the last scrape."""
    _owed: float = 0.0
    """Replica-seconds."""

    def queries(self) -> Mapping[str, Expression]:
        """How old the newest sample is, of an engine or the router; what samples say is known."""
        ages = Binary(Age(Series(contract.RUNNING)), "or", Age(Series(contract.ROUTER_REQUESTS)))
        return {_AGE: By("min", (), ages)}

    def decide(self, seen: Seen) -> int:
        """What is needed, and what works off the queue."""
        age = seen.samples[_AGE]
        if not isinstance(age, Unknown) and age:
            self._known = max(self._known, seen.now - age[0].value)
        needed = self.need.at(self._known)
        ready = sum(pod.ready and not pod.terminating for pod in seen.pods)
        owed = self._owed + (needed - ready) * self.every
        self._owed = min(max(0.0, owed), needed * _DRAIN_SECONDS)
        return readings.bounded(seen, needed + math.ceil(self._owed / _DRAIN_SECONDS))

    def restarted(self) -> None:
        """It can ask again."""
