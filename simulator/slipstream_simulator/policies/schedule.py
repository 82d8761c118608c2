"""Schedule of ready replicas over time, and the cheapest schedule for a need."""

import bisect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """Ready replicas in windows of equal length from time 0; the last window never ends."""

    window: float
    replicas: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.window > 0 or not self.replicas:
            raise ValueError("a schedule has windows of more than 0 s, and at least one")

    def at(self, time: float) -> int:
        """Return the replicas at a time in seconds."""
        return self.replicas[min(max(0, int(time // self.window)), len(self.replicas) - 1)]

    def gpu_seconds(self, *, initial: int, start: float) -> float:
        """Return the replica-seconds of ready and starting replicas, where a start takes `start` seconds."""
        rises = sum(
            max(0, after - before)
            for before, after in zip((initial, *self.replicas), self.replicas, strict=False)
        )
        return self.window * sum(self.replicas) + start * rises


def cheapest(need: Schedule, *, initial: int, start: float) -> Schedule:
    """Return the schedule of least GPU time that covers the need in each window.

    The result is exact. The cost is a sum over levels: the first replica, the second and so on. Keeping a level through
    a gap in its need is cheaper if the gap is shorter than a start. Gaps are nested, so the levels never contradict.
    """
    replicas = list(need.replicas)
    for level in range(1, max(*replicas, initial) + 1):
        for first, end in _gaps(need.replicas, level, running=level <= initial):
            if (end - first) * need.window < start:
                replicas[first:end] = [max(one, level) for one in replicas[first:end]]
    return Schedule(need.window, tuple(replicas))


def _gaps(need: Sequence[int], level: int, *, running: bool) -> Iterator[tuple[int, int]]:
    """Yield the gaps of a level: windows that don't need it, between windows that do.

    A gap at the beginning counts only if the level is running already."""
    first = 0 if running else None
    for index, one in enumerate(need):
        if one >= level:
            if first is not None and first < index:
                yield first, index
            first = index + 1


@dataclass(frozen=True)
class Orders:
    """Times in seconds at which pods are requested and at which they must be ready, both in order."""

    requested: tuple[float, ...]
    ready: tuple[float, ...]

    def starting(self, now: float) -> int:
        """Return the number of pods that are requested and not yet due."""
        return bisect.bisect_right(self.requested, now) - bisect.bisect_right(self.ready, now)


def orders(schedule: Schedule, *, initial: int, cold_start: Callable[[int], float]) -> Orders:
    """Return the orders that request the n-th created pod `cold_start(n)` seconds before it is due.

    A pod is requested no later than the next one, even if its own start is shorter.
    """
    ready: list[float] = []
    before = initial
    for index, count in enumerate(schedule.replicas):
        ready += [index * schedule.window] * max(0, count - before)
        before = count
    requested = [due - cold_start(number) for number, due in enumerate(ready)]
    for number in range(len(requested) - 2, -1, -1):
        requested[number] = min(requested[number], requested[number + 1])
    return Orders(tuple(requested), tuple(ready))
