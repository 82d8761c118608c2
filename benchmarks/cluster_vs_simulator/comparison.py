"""Whether the cluster did what the simulator predicts: how far simulated seeds are apart says how far it may be off."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.cluster_vs_simulator.cluster import Recording
from slipstream_simulator import score
from slipstream_simulator.simulation import Run

SLACK: Final = 1
"""Replicas that the count may lie outside of what the seeds show."""
ENOUGH: Final = 0.9
"""Share of the seconds in which it must lie inside."""
TAKING_OVER: Final = 3.0
"""Seconds from a new leader to its first decision with what was measured: its first look holds."""

Changes = Sequence[tuple[float, int]]


@dataclass(frozen=True)
class Envelope:
    """The lowest and the highest count of the seeds, second by second."""

    low: NDArray[np.int64]
    high: NDArray[np.int64]

    @classmethod
    def of(cls, seeds: Sequence[Changes], *, duration: float) -> "Envelope":
        """Of the counts that each seed shows over time."""
        counts = np.array([by_second(one, duration=duration) for one in seeds])
        return cls(counts.min(axis=0), counts.max(axis=0))

    def share(self, counts: NDArray[np.int64], *, slack: int = 0) -> float:
        """Share of the seconds in which these counts are no further outside than the slack."""
        return float(((counts >= self.low - slack) & (counts <= self.high + slack)).mean())


@dataclass(frozen=True)
class Quantity:
    """A number that sums a run up, and how far it may lie outside of what the seeds show."""

    name: str
    of: Callable[[Run], float]
    slack: float


@dataclass(frozen=True)
class Check:
    """One quantity in the cluster, under the same traffic in the simulator, and under any of the seeds."""

    name: str
    cluster: float
    simulated: float
    low: float
    high: float
    slack: float

    @property
    def holds(self) -> bool:
        """Whether the cluster is as close as it must be."""
        return self.low - self.slack <= self.cluster <= self.high + self.slack


def by_second(changes: Changes, *, duration: float) -> NDArray[np.int64]:
    """The count at each second."""
    return score.steps(changes, np.arange(0.0, duration, 1.0))


def difference(one: Changes, other: Changes, *, duration: float) -> float:
    """Mean absolute difference of two counts, in replicas."""
    counts = [by_second(changes, duration=duration) for changes in (one, other)]
    return float(np.abs(counts[0] - counts[1]).mean())


def first_increase(changes: Changes) -> float:
    """Seconds until the count grows for the first time; inf if it never does."""
    grown = [at for (_, before), (at, after) in itertools.pairwise(changes) if after > before]
    return min(grown, default=float("inf"))


def removed(run: Run, *, since: float, until: float) -> int:
    """Pods that were told to go, or vanished, in this time."""
    gone = [pod.ended if pod.closed is None else pod.closed for pod in run.pods]
    return sum(at is not None and since <= at < until for at in gone)


def changed(changes: Changes, *, since: float, until: float) -> int:
    """How often the count changed in this time."""
    return sum(since <= at < until for at, _ in changes[1:])


QUANTITIES: Final = (
    Quantity("first increase (s)", lambda run: first_increase(run.requested), 10.0),
    Quantity("highest count", lambda run: float(max(count for _, count in run.requested)), 1.0),
    Quantity("count at the end", lambda run: float(run.requested[-1][1]), 1.0),
    Quantity("changes of the count", lambda run: len(run.requested) - 1.0, 4.0),
    Quantity("GPU-seconds", lambda run: 3600 * score.gpu_hours(run), 100.0),
    Quantity("attainment", lambda run: score.score(run).attainment, 0.03),
)


@dataclass(frozen=True)
class Comparison:
    """The recording of a cluster beside the runs of the same scenario with each seed, the cluster's own first."""

    recording: Recording
    cluster: Run
    simulated: Sequence[Run]

    @property
    def checks(self) -> list[Check]:
        """All quantities."""
        found = []
        for quantity in QUANTITIES:
            values = [quantity.of(run) for run in self.simulated]
            found.append(
                Check(
                    name=quantity.name,
                    cluster=quantity.of(self.cluster),
                    simulated=values[0],
                    low=min(values),
                    high=max(values),
                    slack=quantity.slack,
                )
            )
        return found

    def inside(self, *, slack: int) -> float:
        """Share of the seconds in which the decided count is within what the seeds show."""
        duration = self.cluster.scenario.duration
        envelope = Envelope.of([run.requested for run in self.simulated], duration=duration)
        return envelope.share(by_second(self.cluster.requested, duration=duration), slack=slack)

    @property
    def apart(self) -> float:
        """Mean difference of the decided counts of cluster and simulator under the same traffic."""
        duration = self.cluster.scenario.duration
        return difference(self.cluster.requested, self.simulated[0].requested, duration=duration)

    @property
    def apart_by_luck(self) -> float:
        """The same between the simulator's run of this traffic and those of the other seeds."""
        duration = self.cluster.scenario.duration
        first, *others = (run.requested for run in self.simulated)
        return float(np.mean([difference(first, one, duration=duration) for one in others]))

    @property
    def removed_in_outage(self) -> int:
        """Pods that were taken away while there was no Prometheus."""
        return sum(
            removed(self.cluster, since=since, until=until) for since, until in self.recording.blind
        )

    @property
    def changed_by_restart(self) -> int:
        """Changes of the count and removed pods, from the end of one operator to the next one's first decisions."""
        return sum(
            changed(self.cluster.requested, since=since, until=until + TAKING_OVER)
            + removed(self.cluster, since=since, until=until + TAKING_OVER)
            for since, until in self.recording.restarted
        )

    @property
    def matches(self) -> bool:
        """Whether all of it is as it must be."""
        return (
            self.inside(slack=SLACK) >= ENOUGH
            and all(check.holds for check in self.checks)
            and self.removed_in_outage == self.changed_by_restart == 0
        )
