"""`make bench-autoscaling`: cost of meeting the objectives under Slipstream, other autoscalers and the oracle."""

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import click
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn

from benchmarks import report
from benchmarks.autoscaling import tables
from benchmarks.autoscaling.summary import GOAL, Scores, cheapest
from slipstream_simulator import registry, scenarios
from slipstream_simulator.campaign import Job, Workers
from slipstream_simulator.peers.catalogue import PEERS
from slipstream_simulator.scenarios import Scenario

FOLDER: Final = Path(__file__).parent
STATIC: Final = ("static-mean", "static-peak")
ABLATIONS: Final = tuple(f"{registry.SLIPSTREAM}-no-{part}" for part in registry.PARTS)
SWEPT: Final = 3
"""Knobs are swept on each third scenario."""
BATCH: Final = 8
"""Policies per job: a job runs them on one scenario and seed, and draws the traffic once."""
BOUNDS, RESERVES, PARTS, KNOBS, ALL, BEST = PHASES = (
    "slipstream, static, bounds",
    "slipstream with reserves",
    "ablations",
    "peers' knobs",
    "all peers",
    "best peers, all seeds",
)
FINALISTS: Final = 2
"""Tuned peers that play all seeds; all others play the first seed."""

MEANINGS: Final = {
    "attainment": "requests inside all their limits under Slipstream: mean of the scenarios that the oracle keeps",
    "gpu_hours_vs_oracle": "GPU-hours of Slipstream over the oracle's, summed over these scenarios",
    "best_tuned_peer": "cheapest peer, with one best knob, that attains 99 % (or Slipstream's attainment if lower)",
    "saving_vs_best_tuned_peer": "1 - GPU-hours of Slipstream over that peer's",
    "safety_violations": "Slipstream's decisions that no policy may take, in all runs",
    "wall_s": "seconds that the benchmark took",
}


class Arena:
    """Arena that runs policies on scenarios and keeps the scores."""

    def __init__(self, progress: Progress, workers: Workers) -> None:
        self.scores = Scores()
        self._progress, self._workers = progress, workers
        self._tasks = {phase: progress.add_task(phase, start=False, total=None) for phase in PHASES}

    def play(
        self, phase: str, field: Sequence[Scenario], policies: Sequence[str], *, seeds: int
    ) -> None:
        """All policies on all scenarios, with the first seeds; what was played already is not played again."""
        planned = [
            Job(scenario, tuple(names), seed)
            for scenario in field
            for seed in range(seeds)
            for names in _batches(self._missing(policies, scenario.name, seed))
        ]
        task = self._tasks[phase]
        done = self._progress.tasks[task].completed
        self._progress.update(task, total=done + len(planned))
        self._progress.start_task(task)
        for _, scores in self._workers.results(planned):
            self.scores.add(scores)
            self._progress.advance(task)

    def _missing(self, policies: Sequence[str], scenario: str, seed: int) -> list[str]:
        return [one for one in dict.fromkeys(policies) if not self.scores.has(one, scenario, seed)]


def _batches(policies: Sequence[str]) -> Iterator[Sequence[str]]:
    """NB: small enough that the last of them do not keep one process busy for long."""
    for start in range(0, len(policies), BATCH):
        yield policies[start : start + BATCH]


@click.command()
@click.option("--seeds", type=click.IntRange(1), default=5, show_default=True)
@click.option("--scenario", "only", multiple=True, help="Its name; all without. Can be repeated.")
@click.option("--jobs", type=click.IntRange(1), default=os.cpu_count() or 1, help="Processes.")
def main(seeds: int, only: tuple[str, ...], jobs: int) -> None:
    """Play all published scenarios under all policies and write RESULTS.md and pareto.png."""
    began = time.monotonic()
    field = [scenarios.load(path) for path in sorted((FOLDER / "scenarios").glob("*.yaml"))]
    if unknown := set(only) - {one.name for one in field}:
        raise click.BadParameter(
            f"there is no scenario {', '.join(sorted(unknown))}: "
            f"choose from {', '.join(one.name for one in field)}"
        )
    field = [one for one in field if not only or one.name in only]
    columns = (*Progress.get_default_columns(), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        Workers(jobs) as workers,
        Progress(*columns, console=Console(stderr=True)) as progress,
    ):
        arena = Arena(progress, workers)
        bounds = (registry.SLIPSTREAM, *STATIC, registry.NOWCAST, registry.ORACLE)
        arena.play(BOUNDS, field, bounds, seeds=seeds)
        names = [one.name for one in field]
        counted = arena.scores.kept(registry.ORACLE, names) or names
        reserves = _reserve(arena, field, counted, seeds=seeds)
        arena.play(PARTS, field, ABLATIONS, seeds=1)
        tuned = _tune(arena, field, counted, seeds=seeds)
    _publish(arena.scores, field, counted, reserves, tuned, seeds=seeds, began=began)


def _reserve(
    arena: Arena, field: Sequence[Scenario], counted: Sequence[str], *, seeds: int
) -> dict[str, str]:
    """Map each counted scenario whose goal Slipstream misses to the least `minReplicas` that keeps it.

    NB: all seeds confirm what the first one finds.
    """
    reserves: dict[str, str] = {}
    keeps = arena.scores.keeps
    missed = [
        one for one in field if one.name in counted and not keeps(registry.SLIPSTREAM, one.name)
    ]
    most = max((one.scaling.max_replicas for one in missed), default=0)
    for policy in map(registry.standing, range(1, most + 1)):
        arena.play(RESERVES, missed, [policy], seeds=1)
        likely = [one for one in missed if keeps(policy, one.name)]
        arena.play(RESERVES, likely, [policy], seeds=seeds)
        reserves |= {one.name: policy for one in likely if keeps(policy, one.name)}
        missed = [one for one in missed if one.name not in reserves]
    return reserves


def _bar(scores: Scores, counted: Sequence[str]) -> float:
    return min(GOAL, scores.totals(registry.SLIPSTREAM, counted).attainment)


def _tune(
    arena: Arena, field: Sequence[Scenario], counted: Sequence[str], *, seeds: int
) -> dict[str, str]:
    """Each peer's name with its best knob; the best of them have played all seeds, all the first."""
    swept = [one for one in field if one.name in counted][::SWEPT]
    names = [one.name for one in swept]
    knobs = {
        name: [registry.tuned(name, knob) for knob in peer.knobs] for name, peer in PEERS.items()
    }
    arena.play(KNOBS, swept, [one for many in knobs.values() for one in many], seeds=1)
    bar = _bar(arena.scores, names)
    tuned = {
        peer: cheapest({name: arena.scores.totals(name, names) for name in many}, bar=bar)
        for peer, many in knobs.items()
    }
    arena.play(ALL, field, [*PEERS, *tuned.values()], seeds=1)
    options = {name: arena.scores.totals(name, counted) for name in tuned.values()}
    finalists = []
    for _ in range(FINALISTS):
        finalists.append(cheapest(options, bar=_bar(arena.scores, counted)))
        del options[finalists[-1]]
    arena.play(BEST, field, finalists, seeds=seeds)
    return tuned


def _publish(
    scores: Scores,
    field: Sequence[Scenario],
    counted: Sequence[str],
    reserves: dict[str, str],
    tuned: dict[str, str],
    *,
    seeds: int,
    began: float,
) -> None:
    names = [one.name for one in field]
    options = {
        name: scores.totals(name, counted)
        for name in tuned.values()
        if len(scores.of(name, counted[0])) == seeds
    }
    best = cheapest(options, bar=_bar(scores, counted))
    contest = tables.Contest(scores, names, counted, reserves, tuned, best)
    report.publish(
        folder=FOLDER,
        title="Autoscaling",
        command="make bench-autoscaling",
        figures={
            "attainment": round(scores.totals(registry.SLIPSTREAM, counted).attainment, 4),
            "gpu_hours_vs_oracle": round(contest.ratio(registry.ORACLE).middle, 3),
            "best_tuned_peer": best,
            "saving_vs_best_tuned_peer": round(1 - contest.ratio(best).middle, 3),
            "safety_violations": sum(
                one.safety for name in names for one in scores.of(registry.SLIPSTREAM, name)
            ),
            "wall_s": round(time.monotonic() - began),
        },
        meanings=MEANINGS,
        details=tables.details(contest, seeds=seeds, ablations=ABLATIONS, static=STATIC),
    )
    tables.plot(contest, static=STATIC, path=FOLDER / "pareto.png")


if __name__ == "__main__":
    main()
