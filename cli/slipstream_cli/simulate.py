"""`slipstream simulate`: scaling policies side by side on the user's own traffic."""

import json
import os
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from slipstream_simulator import campaign, plots, registry, traffic
from slipstream_simulator import scenario as scenarios
from slipstream_simulator.scenario import Scenario
from slipstream_simulator.score import Score

_KNOBS: Final = "hpa-kv@0.4 sets a peer's knob, slipstream@4 sets minReplicas to 4"


def _policies(_: click.Context, __: click.Parameter, value: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in value.split(",") if name.strip())
    if names == ("all",):
        return tuple(registry.POLICIES)
    unknown = [name for name in names if not _exists(name)]
    if unknown or not names:
        raise click.BadParameter(
            f"there is no policy {', '.join(unknown) or value!r}: "
            f"choose from {', '.join(registry.POLICIES)}, or {_KNOBS}"
        )
    return names


def _exists(name: str) -> bool:
    try:
        registry.find(name)
    except KeyError:
        return False
    return True


@click.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path), metavar="[SCENARIO.yaml]...")
@click.option(
    "--policy",
    "policies",
    default=",".join(registry.DEFAULT),
    show_default=True,
    callback=_policies,
    metavar="P,...",
    help="Scaling policies to compare, or all: " + ", ".join(registry.POLICIES) + f"; {_KNOBS}.",
)
@click.option(
    "--seeds",
    type=click.IntRange(1, 1000),
    help="Random seeds per scenario.  [default: from the scenario]",
)
@click.option(
    "--trace",
    type=click.Path(path_type=Path),
    metavar="FILE.csv",
    help="Your traffic, with columns time (s), prompt and output (tokens), in place of the scenario's.",
)
@click.option(
    "-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True
)
@click.option(
    "--plot",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Draw each scenario's first seed into DIR.",
)
@click.option(
    "--jobs",
    type=click.IntRange(1, 256),
    default=os.cpu_count() or 1,
    show_default="all cores",
    help="Processes.",
)
def simulate(
    files: tuple[Path, ...],
    policies: tuple[str, ...],
    seeds: int | None,
    trace: Path | None,
    output: str,
    folder: Path | None,
    jobs: int,
) -> None:
    """Simulate fleets: what each scaling policy would cost, and what users would feel.

    SCENARIO.yaml describes traffic, engine, objectives, limits and faults (see docs/simulator.md). With --trace and
    no scenario, an 8B model on one accelerator, TTFT p95 1 s and TPOT p95 40 ms, and 1 to 32 replicas are assumed.
    """
    try:
        wanted = [scenarios.load(path) for path in files]
        if trace is not None:
            wanted = [traffic.traced(one, trace) for one in wanted] or [traffic.defaults(trace)]
    except scenarios.ScenarioError as error:
        click.echo(f"Error: {error}", err=True)
        raise click.exceptions.Exit(2) from error
    if not wanted:
        raise click.UsageError("give a SCENARIO.yaml, or --trace with your traffic")
    count, results = campaign.campaign(wanted, policies, seeds=seeds, jobs=jobs)
    found: list[Score] = []
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("Simulating", total=count)
        for scores in results:
            found += scores
            progress.advance(task)
    names = [one.name for one in wanted]
    found.sort(key=lambda one: (names.index(one.scenario), one.seed, policies.index(one.policy)))
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        for one in wanted:
            runs = {name: campaign.play(one, name, seed=0) for name in policies}
            click.echo(plots.plot(runs, folder), err=True)
    if output == "json":
        click.echo(json.dumps([one.plain() for one in found], indent=2))
    else:
        _show(wanted, policies, found)


def _show(wanted: Sequence[Scenario], policies: Sequence[str], scores: Sequence[Score]) -> None:
    """One table a scenario, the means over seeds."""
    console = Console(width=100)
    for scenario in wanted:
        table = Table(title=scenario.name, title_justify="left", title_style="bold")
        table.add_column("policy", no_wrap=True)
        for name in (
            "attained", "worst 5 min", "GPU-h", "TTFT p95", "TPOT p95", "flaps/h", "changes/h", "unsafe",
        ):  # fmt: skip
            table.add_column(name, justify="right")
        for policy in policies:
            of = [s for s in scores if (s.scenario, s.policy) == (scenario.name, policy)]
            table.add_row(
                policy,
                f"{100 * _mean([s.attainment for s in of]):.2f}%",
                f"{100 * _mean([s.worst_5_minutes for s in of]):.1f}%",
                f"{_mean([s.gpu_hours for s in of]):.2f}",
                f"{_mean([s.ttft_p95 for s in of]):.3g}s",
                f"{1e3 * _mean([s.tpot_p95 for s in of]):.1f}ms",
                f"{_mean([s.flaps_per_hour for s in of]):.1f}",
                f"{_mean([s.changes_per_hour for s in of]):.1f}",
                str(sum(s.safety for s in of)),
            )
        console.print(table)


def _mean(values: Sequence[float]) -> float:
    return statistics.fmean(values) if values else float("nan")
