"""`make bench-autoscaling`: what it costs to keep the objectives, under ours, under others' policies and at least."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn

from benchmarks import report
from benchmarks.autoscaling import tables
from benchmarks.autoscaling.summary import GOAL, Scores, cheapest
from slipstream_operator.simulator import campaign
from slipstream_operator.simulator import scenario as scenarios
from slipstream_operator.simulator.policies import registry
from slipstream_operator.simulator.policies.peers import PEERS
from slipstream_operator.simulator.scenario import Scenario

FOLDER: Final = Path(__file__).parent
STATIC: Final = ("static-mean", "static-peak")
ABLATIONS: Final = tuple(f"{registry.OURS}-no-{part}" for part in registry.PARTS)
SWEPT: Final = 3
"""Knobs are swept on each third scenario."""
FINALISTS: Final = 5
"""So many tuned peers play all seeds; all others the first one."""

MEANINGS: Final = {
    "attainment": "requests of ours inside all their limits: mean of the scenarios that the oracle keeps",
    "gpu_hours_vs_oracle": "GPU-hours of ours over the oracle's, summed over these scenarios",
    "best_tuned_peer": "the cheapest peer with one best knob that attains 99 %, or as much as ours if that is less",
    "saving_vs_best_tuned_peer": "1 - GPU-hours of ours over that peer's",
    "safety_violations": "decisions of ours that no policy may take, in all runs",
    "wall_s": "seconds that the benchmark took",
}


class Arena:
    """Plays policies on scenarios and keeps the scores."""

    def __init__(self, progress: Progress, jobs: int) -> None:
        self.scores = Scores()
        self._progress, self._jobs = progress, jobs

    def play(
        self, what: str, field: Sequence[Scenario], policies: Sequence[str], *, seeds: int
    ) -> None:
        """All policies on all scenarios, with the first seeds."""
        count, results = campaign.campaign(field, policies, seeds=seeds, jobs=self._jobs)
        task = self._progress.add_task(what, total=count)
        for scores in results:
            self.scores.add(scores)
            self._progress.advance(task)


@click.command()
@click.option("--seeds", type=click.IntRange(1), default=5, show_default=True)
@click.option("--scenario", "only", multiple=True, help="Its name; all without. Can be repeated.")
@click.option("--jobs", type=click.IntRange(1), default=os.cpu_count() or 1, help="Processes.")
def main(seeds: int, only: tuple[str, ...], jobs: int) -> None:
    """Play all published scenarios under all policies and write RESULTS.md and pareto.png."""
    began = time.monotonic()
    field = [scenarios.load(path) for path in sorted((FOLDER / "scenarios").glob("*.yaml"))]
    if unknown := set(only) - {one.name for one in field}:
        raise click.BadParameter(f"there is no scenario {', '.join(sorted(unknown))}")
    field = [one for one in field if not only or one.name in only]
    columns = (*Progress.get_default_columns(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        arena = Arena(progress, jobs)
        arena.play("ours and oracle", field, (registry.OURS, *STATIC, registry.ORACLE), seeds=seeds)
        arena.play("ablations", field, ABLATIONS, seeds=1)
        counted = _kept(arena.scores, field)
        tuned = _tune(arena, field, counted, seeds=seeds)
    _publish(arena.scores, field, counted, tuned, seeds=seeds, began=began)


def _kept(scores: Scores, field: Sequence[Scenario]) -> list[str]:
    """Scenarios in which the oracle attains the goal; all if there is none."""
    names = [one.name for one in field]
    return [
        name
        for name in names
        if scores.mean(registry.ORACLE, name, lambda score: score.attainment) >= GOAL
    ] or names


def _bar(scores: Scores, counted: Sequence[str]) -> float:
    return min(GOAL, scores.totals(registry.OURS, counted).attainment)


def _tune(
    arena: Arena, field: Sequence[Scenario], counted: Sequence[str], *, seeds: int
) -> dict[str, str]:
    """Each peer's name with its best knob; the best of them have played all seeds, all the first."""
    swept = [one for one in field if one.name in counted][::SWEPT]
    names = [one.name for one in swept]
    knobs = {
        name: [registry.tuned(name, knob) for knob in peer.knobs] for name, peer in PEERS.items()
    }
    arena.play("knobs of peers", swept, [one for many in knobs.values() for one in many], seeds=1)
    bar = _bar(arena.scores, names)
    tuned = {
        peer: cheapest({name: arena.scores.totals(name, names) for name in many}, bar=bar)
        for peer, many in knobs.items()
    }
    arena.play("peers", field, [*PEERS, *tuned.values()], seeds=1)
    options = {name: arena.scores.totals(name, counted) for name in tuned.values()}
    finalists = []
    for _ in range(FINALISTS):
        finalists.append(cheapest(options, bar=_bar(arena.scores, counted)))
        del options[finalists[-1]]
    if seeds > 1:
        arena.play("best peers", field, finalists, seeds=seeds)
    return tuned


def _publish(
    scores: Scores,
    field: Sequence[Scenario],
    counted: Sequence[str],
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
    contest = tables.Contest(scores, names, counted, tuned, best)
    report.publish(
        folder=FOLDER,
        title="Autoscaling",
        command="make bench-autoscaling",
        figures={
            "attainment": round(scores.totals(registry.OURS, counted).attainment, 4),
            "gpu_hours_vs_oracle": round(contest.ratio(registry.ORACLE)[0], 3),
            "best_tuned_peer": best,
            "saving_vs_best_tuned_peer": round(1 - contest.ratio(best)[0], 3),
            "safety_violations": sum(
                one.safety for name in names for one in scores.of(registry.OURS, name)
            ),
            "wall_s": round(time.monotonic() - began),
        },
        meanings=MEANINGS,
        details=tables.details(contest, seeds=seeds, ablations=ABLATIONS, static=STATIC),
    )
    tables.plot(contest, static=STATIC, path=FOLDER / "pareto.png")


if __name__ == "__main__":
    main()
