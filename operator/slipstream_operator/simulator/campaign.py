"""Many runs: every policy on every scenario with every seed, in several processes."""

import concurrent.futures
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from slipstream_operator.simulator import score, simulation
from slipstream_operator.simulator.policies import registry
from slipstream_operator.simulator.scenario import Scenario
from slipstream_operator.simulator.score import Score
from slipstream_operator.simulator.simulation import Run


@dataclass(frozen=True)
class Job:
    """All policies on one scenario with one seed, which have the same traffic and luck."""

    scenario: Scenario
    policies: tuple[str, ...]
    seed: int

    def scores(self) -> list[Score]:
        """One score a policy; the oracle, if it is among them, is what the others are held against."""
        # One run at a time: the records of a long scenario are large.
        oracle = None
        if registry.ORACLE in self.policies:
            oracle = play(self.scenario, registry.ORACLE, seed=self.seed)
        return [
            score.score(
                oracle
                if oracle is not None and name == registry.ORACLE
                else play(self.scenario, name, seed=self.seed),
                oracle=oracle,
            )
            for name in self.policies
        ]


def play(scenario: Scenario, policy: str, *, seed: int) -> Run:
    """One run of a policy by its name."""
    run = simulation.run(scenario, registry.find(policy)(scenario, seed), seed=seed)
    return dataclasses.replace(run, policy=policy)


def campaign(
    scenarios: Sequence[Scenario], policies: Sequence[str], *, seeds: int | None, jobs: int
) -> tuple[int, Iterator[list[Score]]]:
    """The number of jobs, and their scores as they come, in the order of scenarios and seeds."""
    planned = [
        Job(scenario, tuple(policies), seed)
        for scenario in scenarios
        for seed in range(scenario.seeds if seeds is None else seeds)
    ]
    return len(planned), _results(planned, jobs)


def _results(planned: Sequence[Job], jobs: int) -> Iterator[list[Score]]:
    if jobs == 1 or len(planned) == 1:
        yield from map(Job.scores, planned)
        return
    scores: Callable[[Job], list[Score]] = Job.scores
    with concurrent.futures.ProcessPoolExecutor(jobs) as pool:
        yield from pool.map(scores, planned)
