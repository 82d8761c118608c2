"""`make bench-drawn-scenarios`: the policy on scenarios that were drawn by chance, not chosen."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn

from benchmarks import report
from benchmarks.autoscaling.summary import GOAL, Scores
from benchmarks.drawn_scenarios.draw import draw
from slipstream_simulator import registry
from slipstream_simulator.campaign import Job, Workers
from slipstream_simulator.scenarios import Scenario

FOLDER: Final = Path(__file__).parent
PEER: Final = "ray-serve@16"
"""The best tuned one of `make bench-autoscaling`."""
POLICIES: Final = (registry.SLIPSTREAM, registry.ORACLE, registry.NOWCAST, PEER)

MEANINGS: Final = {
    "scenarios": "random scenarios",
    "kept_by_oracle": f"in which the oracle attains {GOAL:.0%}: those that count",
    "kept": "of these, in which Slipstream attains it",
    "kept_by_nowcast": "of these, in which the nowcast does, which knows all past requests",
    "kept_by_peer": f"of these, in which {PEER} does",
    "attainment": "requests inside all their limits under Slipstream: mean of those that count",
    "gpu_hours_vs_oracle": "GPU-hours of Slipstream over the oracle's, summed over them",
    "saving_vs_peer": f"1 - GPU-hours of Slipstream over those of {PEER}",
    "safety_violations": "Slipstream's decisions that no policy may take, in all scenarios",
    "wall_s": "seconds that the benchmark took",
}


@click.command()
@click.option("--count", type=click.IntRange(1, 999), default=48, show_default=True)
@click.option("--seed", default=2026, show_default=True, help="Of what is drawn.")
@click.option("--jobs", type=click.IntRange(1), default=os.cpu_count() or 1, help="Processes.")
def main(count: int, seed: int, jobs: int) -> None:
    """Draw scenarios, play Slipstream, the bounds and the best tuned peer on them, and write RESULTS.md."""
    began = time.monotonic()
    field = [draw(number, seed=seed) for number in range(count)]
    columns = (*Progress.get_default_columns(), MofNCompleteColumn(), TimeElapsedColumn())
    scores = Scores()
    with Workers(jobs) as workers, Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("scenarios", total=count)
        for _, played in workers.results([Job(one, POLICIES, seed) for one in field]):
            scores.add(played)
            progress.advance(task)
    names = [one.name for one in field]
    counted = scores.kept(registry.ORACLE, names)
    own, oracle, peer = (
        scores.totals(policy, counted or names)
        for policy in (registry.SLIPSTREAM, registry.ORACLE, PEER)
    )
    report.publish(
        folder=FOLDER,
        title="Random scenarios",
        command="make bench-drawn-scenarios",
        figures={
            "scenarios": count,
            "kept_by_oracle": len(counted),
            "kept": len(scores.kept(registry.SLIPSTREAM, counted)),
            "kept_by_nowcast": len(scores.kept(registry.NOWCAST, counted)),
            "kept_by_peer": len(scores.kept(PEER, counted)),
            "attainment": round(own.attainment, 4),
            "gpu_hours_vs_oracle": round(own.gpu_hours / oracle.gpu_hours, 3),
            "saving_vs_peer": round(1 - own.gpu_hours / peer.gpu_hours, 3),
            "safety_violations": sum(
                one.safety for name in names for one in scores.of(registry.SLIPSTREAM, name)
            ),
            "wall_s": round(time.monotonic() - began),
        },
        meanings=MEANINGS,
        details=_details(scores, field),
    )


def _details(scores: Scores, field: Sequence[Scenario]) -> str:
    lines = [
        "Attainment / GPU-hours. A fault is one event of the scenario; `draw.py` says what can be drawn.\n",
        f"| scenario | fault | {' | '.join(POLICIES)} |",
        "|---|---|" + "---:|" * len(POLICIES),
    ]
    for one in field:
        faults = ", ".join(event.kind.replace("_", " ") for event in one.events)
        played = [scores.of(policy, one.name)[0] for policy in POLICIES]
        cells = " | ".join(f"{s.attainment:.2%} / {s.gpu_hours:.2f}" for s in played)
        lines.append(f"| {one.name.removeprefix('drawn-')} | {faults or '-'} | {cells} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
