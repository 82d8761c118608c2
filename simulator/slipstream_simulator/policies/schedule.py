"""Schedule of ready replicas over time, and the cheapest one if a start costs its time."""

import bisect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """Ready replicas in windows of equal length, the first from time 0; the last goes on for ever."""

    window: float
    replicas: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.window > 0 or not self.replicas:
            raise ValueError("a schedule has windows of more than 0 s, and at least one")

    def at(self, time: float) -> int:
        """The replicas at a time in seconds."""
        return self.replicas[min(max(0, int(time // self.window)), len(self.replicas) - 1)]

    def gpu_seconds(self, *, initial: int, start: float) -> float:
        """Return the replica-seconds of ready and starting replicas, where a start takes `start` seconds."""
        rises = sum(
            max(0, after - before)
            for before, after in zip((initial, *self.replicas), self.replicas, strict=False)
        )
        return self.window * sum(self.replicas) + start * rises


def cheapest(need: Schedule, *, initial: int, start: float) -> Schedule:
    """The schedule of least GPU time that has at least what is needed in each window.

    Exact: the cost is a sum over levels (the first replica, the second, ..), and a level is best kept through a gap in
    which nobody needs it when the gap is shorter than a start. Gaps are nested, so the levels never contradict.
    """
    replicas = list(need.replicas)
    for level in range(1, max(*replicas, initial) + 1):
        for first, end in _gaps(need.replicas, level, running=level <= initial):
            if (end - first) * need.window < start:
                replicas[first:end] = [max(one, level) for one in replicas[first:end]]
    return Schedule(need.window, tuple(replicas))


def _gaps(need: Sequence[int], level: int, *, running: bool) -> Iterator[tuple[int, int]]:
    """Ranges of windows that do not need the level, between such as do; at the start only if it runs already."""
    first = 0 if running else None
    for index, one in enumerate(need):
        if one >= level:
            if first is not None and first < index:
                yield first, index
            first = index + 1


@dataclass(frozen=True)
class Orders:
    """When pods are asked for, and when they are to be ready; both in order of time, in seconds."""

    requested: tuple[float, ...]
    ready: tuple[float, ...]

    def starting(self, now: float) -> int:
        """Pods that are asked for and not yet due."""
        return bisect.bisect_right(self.requested, now) - bisect.bisect_right(self.ready, now)


def orders(schedule: Schedule, *, initial: int, cold_start: Callable[[int], float]) -> Orders:
    """Each pod asked for as long ahead as its start takes, the n-th in order of creation `cold_start(n)` seconds.

    A pod whose start is slower than that of the next draws it forward no further than to its own time of asking.
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
