"""The oracle of one scenario and seed: the simulator itself judges its schedules."""

import statistics
from typing import Final

from slipstream_operator.simulator import pods, score, simulation, traffic
from slipstream_operator.simulator.policies import oracle
from slipstream_operator.simulator.policies.oracle import Oracle
from slipstream_operator.simulator.policies.schedule import Schedule
from slipstream_operator.simulator.scenario import Scenario

_JUDGEMENTS: Final = 15
_STARTS: Final = 200
"""So many starts give the mean time of one."""


def foreseen(scenario: Scenario, seed: int) -> Oracle:
    """Knows the requests and the starts of this seed."""
    records = traffic.requests(scenario, seed=seed)
    work = oracle.load(
        records["arrival"].tolist(),
        records["prompt"].tolist(),
        records["output"].tolist(),
        duration=scenario.duration,
        engine=scenario.engine.parameters(),
        objectives=scenario.objectives,
    )
    scaling = scenario.scaling

    def start(number: int) -> float:
        return pods.cold_start(scenario, seed=seed, index=scaling.initial + number)

    def judge(timetable: Schedule) -> float:
        policy = Oracle(timetable, scaling.initial, start)
        return score.score(simulation.run(scenario, policy, seed=seed)).attainment

    fleet = oracle.Fleet(
        scaling.min_replicas,
        scaling.max_replicas,
        scaling.initial,
        statistics.fmean(map(start, range(_STARTS))),
    )
    plan = oracle.plan(work, judge, fleet, warmup=scenario.warmup, judgements=_JUDGEMENTS)
    return Oracle(plan, scaling.initial, start)
