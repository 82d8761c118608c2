"""Peers that follow the requests in flight: KubeAI, Knative's KPA and Ray Serve."""

import math
from collections import deque
from collections.abc import Mapping
from typing import Final

from slipstream_operator.core.scaling.promql import Expression
from slipstream_operator.simulator.policies import reading
from slipstream_operator.simulator.policies.policy import Seen


class KubeAI:
    """Ten-minute mean of the requests at the proxy; three lower ticks, then straight down."""

    every = 10.0

    def __init__(self, name: str, target: float) -> None:
        self.name = name
        self.target = target
        self._samples: deque[float] = deque(maxlen=60)
        self._lower = 0

    def queries(self) -> Mapping[str, Expression]:
        """What the proxy counts itself."""
        return reading.in_flight()

    def decide(self, seen: Seen) -> int:
        """A failed scrape skips the tick."""
        active = reading.concurrency(seen)
        if active is None:
            return seen.replicas
        self._samples.append(active)
        wanted = math.ceil(sum(self._samples) / len(self._samples) / self.target)
        wanted = min(max(wanted, seen.minimum), seen.maximum)
        self._lower = self._lower + 1 if wanted < seen.replicas else 0
        if wanted > seen.replicas or self._lower > 3:
            self._lower = 0
            return wanted
        return seen.replicas

    def restarted(self) -> None:
        """The means are kept in a ConfigMap; the count of lower ticks is not."""
        self._lower = 0


class Knative:
    """The KPA: a stable and a panic window of concurrency; panic never goes down."""

    every = 2.0
    STABLE: Final = 60.0
    PANIC: Final = 6.0
    UTILISATION: Final = 0.7

    def __init__(self, name: str, target: float) -> None:
        self.name = name
        self.target = target * self.UTILISATION
        self._seen: deque[tuple[float, float]] = deque()
        self._panic_until = -math.inf
        self._panic_count = 0

    def queries(self) -> Mapping[str, Expression]:
        """The queue-proxies' and the activator's concurrency."""
        return reading.in_flight()

    def decide(self, seen: Seen) -> int:
        """No data: the present count."""
        active = reading.concurrency(seen)
        ready = max(1, reading.ready(seen))
        if active is None:
            return seen.replicas
        self._seen.append((seen.now, active))
        while self._seen[0][0] < seen.now - self.STABLE:
            self._seen.popleft()
        stable, panic = self._mean(seen.now - self.STABLE), self._mean(seen.now - self.PANIC)
        # NB: at most 1000 times up, at most half down, in one decision.
        lowest, highest = math.floor(ready / 2), 1000 * ready
        wanted = min(max(math.ceil(stable / self.target), lowest), highest)
        urgent = min(max(math.ceil(panic / self.target), lowest), highest)
        if urgent / ready >= 2:
            self._panic_until = seen.now + self.STABLE
        if seen.now < self._panic_until:
            self._panic_count = max(self._panic_count, urgent, wanted)
            wanted = self._panic_count
        else:
            self._panic_count = 0
        return min(max(wanted, seen.minimum), seen.maximum)

    def restarted(self) -> None:
        """Windows are in memory."""
        self._seen.clear()
        self._panic_until, self._panic_count = -math.inf, 0

    def _mean(self, since: float) -> float:
        inside = [value for time, value in self._seen if time >= since]
        return sum(inside) / len(inside)


class RayServe:
    """Ongoing requests over a target, looked at for 30 s; up after 30 s, down after 600 s of the same wish."""

    every = 10.0
    LOOK_BACK: Final = 30.0
    UP_DELAY: Final = 30.0
    DOWN_DELAY: Final = 600.0

    def __init__(self, name: str, target: float) -> None:
        self.name = name
        self.target = target
        self._seen: deque[tuple[float, float]] = deque()
        self._wish: tuple[int, float] = (0, 0.0)
        """Direction and since when."""

    def queries(self) -> Mapping[str, Expression]:
        """What the handles count themselves."""
        return reading.in_flight()

    def decide(self, seen: Seen) -> int:
        """No data: the present count."""
        active = reading.concurrency(seen)
        if active is None:
            return seen.replicas
        self._seen.append((seen.now, active))
        while self._seen[0][0] < seen.now - self.LOOK_BACK:
            self._seen.popleft()
        ongoing = sum(value for _, value in self._seen) / len(self._seen)
        wanted = min(max(math.ceil(ongoing / self.target), seen.minimum), seen.maximum)
        direction = (wanted > seen.replicas) - (wanted < seen.replicas)
        if direction != self._wish[0]:
            self._wish = (direction, seen.now)
        delay = self.UP_DELAY if direction > 0 else self.DOWN_DELAY
        return wanted if direction and seen.now - self._wish[1] >= delay else seen.replicas

    def restarted(self) -> None:
        """Counters start anew."""
        self._seen.clear()
        self._wish = (0, 0.0)
