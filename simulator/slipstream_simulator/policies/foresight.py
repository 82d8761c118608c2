"""The policies that know a scenario's traffic: the oracle, whose schedules the simulator itself judges, and who knows
the present alone."""

import math
import statistics
from typing import Final

import numpy as np

from slipstream_simulator import (
    limits,
    pods,
    simulation,
    traffic,
)
from slipstream_simulator.kernel import misses
from slipstream_simulator.kernel.fleet import Kernel
from slipstream_simulator.kernel.layout import Records
from slipstream_simulator.policies import oracle
from slipstream_simulator.policies.nowcast import Nowcast
from slipstream_simulator.policies.oracle import Oracle
from slipstream_simulator.policies.schedule import Schedule
from slipstream_simulator.scenarios import Scenario
from slipstream_simulator.simulation import Run

_JUDGEMENTS: Final = 15
_STARTS: Final = 200
"""Number of starts to compute their mean time from."""


def foreseen(scenario: Scenario, seed: int) -> Oracle:
    """Return the oracle, which knows the requests and the start times of this seed."""
    return _Fleet(scenario, seed).oracle()


def unforeseen(scenario: Scenario, seed: int) -> Nowcast:
    """Return the nowcast, which knows the requests of this seed that have arrived."""
    window = scenario.metrics.scrape
    work = _work(scenario, traffic.requests(scenario, seed=seed), window=window)
    return Nowcast(Schedule(window, tuple(math.ceil(one) for one in work)))


def played(scenario: Scenario, seed: int) -> Run:
    """Return the oracle's run, which the search has usually run already."""
    fleet = _Fleet(scenario, seed)
    policy = fleet.oracle()
    if fleet.kept is not None and fleet.kept[0] == policy.timetable:
        return fleet.kept[1]
    return simulation.run(scenario, policy, seed=seed)


class _Fleet:
    """Fleet that runs schedules and reports their attainment."""

    def __init__(self, scenario: Scenario, seed: int) -> None:
        self._scenario, self._seed = scenario, seed
        self._records = traffic.requests(scenario, seed=seed)
        self._limits = limits.table(scenario)
        scored = int(np.count_nonzero(self._records["arrival"] >= scenario.warmup))
        self._allowed = (1 - oracle.GOAL) * scored + 1e-6
        self.kept: tuple[Schedule, Run] | None = None
        """The last schedule that kept the goal, and its run."""

    def oracle(self) -> Oracle:
        """Return the policy with the cheapest schedule that the search finds."""
        scenario, scaling = self._scenario, self._scenario.scaling
        work = _work(scenario, self._records)
        fleet = oracle.Fleet(
            scaling.min_replicas,
            scaling.max_replicas,
            scaling.initial,
            statistics.fmean(map(self._start, range(_STARTS))),
        )
        return self._following(
            oracle.plan(work, self._judge, fleet, warmup=scenario.warmup, judgements=_JUDGEMENTS)
        )

    def _following(self, timetable: Schedule) -> Oracle:
        return Oracle(timetable, self._scenario.scaling.initial, self._start)

    def _start(self, number: int) -> float:
        scenario = self._scenario
        index = scenario.scaling.initial + number
        return pods.cold_start(scenario, seed=self._seed, index=index)

    def _judge(self, timetable: Schedule) -> float:
        """Return the attainment; 0 as soon as more requests have missed than the goal allows."""
        scenario, policy = self._scenario, self._following(timetable)
        run = simulation.attempt(scenario, policy, seed=self._seed, hopeless=self._hopeless)
        if run is None:
            return 0.0
        missed, judged = misses.count(
            run.requests, scenario.warmup, scenario.duration, self._limits
        )
        attained = (judged - missed) / judged if judged else 0.0
        if attained >= oracle.GOAL:
            self.kept = timetable, run
        return attained

    def _hopeless(self, kernel: Kernel) -> bool:
        return kernel.missed(self._scenario.warmup, self._limits) > self._allowed


def _work(
    scenario: Scenario, records: Records, *, window: float = oracle.WINDOW_SECONDS
) -> tuple[float, ...]:
    """Return the replicas that each window keeps busy."""
    return oracle.load(
        records["arrival"],
        records["prompt"],
        records["output"],
        duration=scenario.duration,
        engine=scenario.engine.parameters(),
        objectives=scenario.objectives,
        window=window,
    )
