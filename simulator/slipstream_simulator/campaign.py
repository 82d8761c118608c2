"""Campaign: run every policy on every scenario with every seed, in parallel processes."""

import concurrent.futures
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from slipstream_simulator import registry, score, simulation, traffic
from slipstream_simulator.policies import foresight
from slipstream_simulator.scenarios import Scenario
from slipstream_simulator.score import Score
from slipstream_simulator.simulation import Run


@dataclass(frozen=True)
class Job:
    """Policies to run on one scenario with one seed; they get the same traffic and random numbers."""

    scenario: Scenario
    policies: tuple[str, ...]
    seed: int

    @property
    def weight(self) -> float:
        """Return an estimate of the job's run time, without a unit."""
        return len(self.policies) * traffic.expected(self.scenario)

    def scores(self) -> list[Score]:
        """Return one score per policy, compared with the oracle if it is among them."""
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
    """Run a policy by its name."""
    if policy == registry.ORACLE:
        run = foresight.played(scenario, seed)
    else:
        run = simulation.run(scenario, registry.find(policy)(scenario, seed), seed=seed)
    return dataclasses.replace(run, policy=policy)


class Workers:
    """Processes that run jobs; with one job at a time, this process runs them itself."""

    def __init__(self, jobs: int) -> None:
        self._pool = concurrent.futures.ProcessPoolExecutor(jobs) if jobs > 1 else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=kind is not None)

    def results(self, planned: Sequence[Job]) -> Iterator[tuple[Job, list[Score]]]:
        """Yield each job with its scores as it finishes; heavy jobs start first to keep all processes busy."""
        ordered = sorted(planned, key=lambda job: job.weight, reverse=True)
        if self._pool is None:
            yield from ((job, job.scores()) for job in ordered)
            return
        scores: Callable[[Job], list[Score]] = Job.scores
        waiting = {self._pool.submit(scores, job): job for job in ordered}
        for done in concurrent.futures.as_completed(waiting):
            yield waiting[done], done.result()


def campaign(
    scenarios: Sequence[Scenario], policies: Sequence[str], *, seeds: int | None, jobs: int
) -> tuple[int, Iterator[list[Score]]]:
    """Return the number of jobs, and an iterator over their scores as they finish."""
    planned = [
        Job(scenario, tuple(policies), seed)
        for scenario in scenarios
        for seed in range(scenario.seeds if seeds is None else seeds)
    ]
    return len(planned), _results(planned, jobs if len(planned) > 1 else 1)


def _results(planned: Sequence[Job], jobs: int) -> Iterator[list[Score]]:
    with Workers(jobs) as workers:
        for _, scores in workers.results(planned):
            yield scores
