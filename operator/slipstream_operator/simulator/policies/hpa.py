"""The HorizontalPodAutoscaler's arithmetic (autoscaling/v2), as the Kubernetes documentation states it."""

import math
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

SYNC_SECONDS: Final = 15.0
TOLERANCE: Final = 0.1


@dataclass(frozen=True)
class Rule:
    """At most `amount` pods, or percent, within `seconds`."""

    kind: Literal["Pods", "Percent"]
    amount: float
    seconds: float


@dataclass(frozen=True)
class Behavior:
    """Stabilisation windows in seconds, and the rules of which the most generous counts."""

    up_window: float = 0.0
    up: tuple[Rule, ...] = (Rule("Pods", 4, 15), Rule("Percent", 100, 15))
    down_window: float = 300.0
    down: tuple[Rule, ...] = (Rule("Percent", 100, 15),)


def external(total: float | None, target: float, *, current: int) -> int | None:
    """An external metric with AverageValue: `ceil(total / target)`; None if the metric is missing."""
    if total is None:
        return None
    if current and abs(total / (target * current) - 1) <= TOLERANCE:
        return current
    return math.ceil(total / target)


def value(metric: float | None, target: float, *, ready: int, current: int) -> int | None:
    """A metric with target type Value: `ceil(ratio x ready pods)`."""
    if metric is None:
        return None
    if abs(metric / target - 1) <= TOLERANCE:
        return current
    return math.ceil(metric / target * ready)


def per_pod(
    metric: Mapping[str, float] | None,
    target: float,
    *,
    ready: Collection[str],
    unready: Collection[str],
    current: int,
) -> int | None:
    """A pods metric: pods without a value count 0 for growth and the target for shrinking, unready ones 0 for growth;
    where that turns the direction, nothing changes."""
    if metric is None or not metric:
        return None
    known = {pod: metric[pod] for pod in ready if pod in metric}
    missing = [pod for pod in ready if pod not in metric]
    if not known:
        return None
    usage = sum(known.values()) / (len(known) * target)
    if not missing and not unready:
        if abs(usage - 1) <= TOLERANCE:
            return current
        return math.ceil(usage * len(known))
    filled = dict(known)
    if usage < 1:
        filled.update(dict.fromkeys(missing, target))
    elif usage > 1:
        filled.update(dict.fromkeys([*missing, *unready], 0.0))
    again = sum(filled.values()) / (len(filled) * target)
    if abs(again - 1) <= TOLERANCE or (usage < 1) != (again < 1):
        return current
    proposal = math.ceil(again * len(filled))
    if (again < 1 and proposal > current) or (again > 1 and proposal < current):
        return current
    return proposal


def combine(proposals: Sequence[int | None], *, current: int) -> int:
    """The highest; with a metric missing, never less than the present count."""
    known = [proposal for proposal in proposals if proposal is not None]
    if not known:
        return current
    best = max(known)
    return current if len(known) < len(proposals) and best < current else best


@dataclass
class Stabiliser:
    """The windows and rules of one HPA, which remember recommendations and changes."""

    behavior: Behavior = Behavior()
    _recommended: deque[tuple[float, int]] = field(default_factory=deque)
    _changed: deque[tuple[float, int]] = field(default_factory=deque)

    def settle(self, now: float, desired: int, *, current: int, minimum: int, maximum: int) -> int:
        """What the HPA asks for."""
        if not self._recommended:
            self._recommended.append((now, current))
        longest = max(self.behavior.up_window, self.behavior.down_window)
        while self._recommended and self._recommended[0][0] < now - longest:
            self._recommended.popleft()
        up = self._within(now, self.behavior.up_window)
        down = self._within(now, self.behavior.down_window)
        self._recommended.append((now, desired))
        stable = min(max(current, min([desired, *up])), max([desired, *down]))
        if stable > current:
            stable = min(stable, self._highest(now, current))
        elif stable < current:
            stable = max(stable, self._lowest(now, current))
        settled = min(max(stable, minimum), maximum)
        if settled != current:
            self._changed.append((now, settled - current))
        while self._changed and self._changed[0][0] < now - 3600:
            self._changed.popleft()
        return settled

    def forget(self) -> None:
        """The controller was started anew: its windows are empty."""
        self._recommended.clear()
        self._changed.clear()

    def _within(self, now: float, window: float) -> list[int]:
        return [count for time, count in self._recommended if time > now - window]

    def _highest(self, now: float, current: int) -> int:
        limits = []
        for rule in self.behavior.up:
            added = sum(d for t, d in self._changed if t > now - rule.seconds and d > 0)
            start = current - added
            limits.append(
                start + rule.amount
                if rule.kind == "Pods"
                else math.ceil(start * (1 + rule.amount / 100))
            )
        return max(current, math.floor(max(limits)))

    def _lowest(self, now: float, current: int) -> int:
        limits = []
        for rule in self.behavior.down:
            removed = -sum(d for t, d in self._changed if t > now - rule.seconds and d < 0)
            start = current + removed
            limits.append(
                start - rule.amount
                if rule.kind == "Pods"
                else math.floor(start * (1 - rule.amount / 100))
            )
        return min(current, max(0, math.floor(min(limits))))
