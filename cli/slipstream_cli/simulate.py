"""`slipstream simulate`: compare scaling policies on a scenario or on the user's own traffic."""

import json
import os
import statistics
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import click
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from slipstream_cli import options
from slipstream_simulator import campaign, plots, registry, scenarios, traffic
from slipstream_simulator.scenarios import Scenario
from slipstream_simulator.score import Score

_VALUES: Final = (
    "name@value sets a policy's parameter: hpa-kv@0.4, or slipstream@4 for minReplicas 4"
)
_WIDTH: Final = 76
"""Columns of the list of policies, which click does not wrap."""


def _listed(names: Iterable[str]) -> str:
    """Return the names as a paragraph that click leaves as it is, since it would break names at their hyphens."""
    lines = textwrap.wrap(
        ", ".join(names),
        _WIDTH,
        break_on_hyphens=False,
        initial_indent="  ",
        subsequent_indent="  ",
    )
    return "\n".join(["\b", "Policies:", *lines])


def _policies(_: click.Context, __: click.Parameter, value: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in value.split(",") if name.strip())
    if names == ("all",):
        return tuple(registry.POLICIES)
    unknown = [name for name in names if not _exists(name)]
    if unknown or not names:
        raise click.BadParameter(
            f"there is no policy {', '.join(unknown) or value!r}: "
            f"choose from {', '.join(registry.POLICIES)}; {_VALUES}"
        )
    return names


def _exists(name: str) -> bool:
    try:
        registry.find(name)
    except KeyError:
        return False
    return True


@click.command(
    short_help="Compare scaling policies on a scenario or on your traffic.",
    epilog=_listed(registry.POLICIES),
)
@click.argument("files", nargs=-1, type=click.Path(path_type=Path), metavar="[SCENARIO.yaml]...")
@click.option(
    "--policy",
    "policies",
    default=",".join(registry.DEFAULT),
    show_default=True,
    callback=_policies,
    metavar="P,...",
    help=f"Policies to compare, separated by commas, or all; {_VALUES}.",
)
@click.option(
    "--seeds",
    type=click.IntRange(1, 1000),
    show_default="from the scenario",
    help="Random seeds per scenario.",
)
@click.option(
    "--trace",
    type=click.Path(path_type=Path),
    metavar="FILE.csv",
    help="Your traffic, in place of the scenario's: columns time (s), prompt and output (tokens).",
)
@options.output
@click.option(
    "--plot",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Folder for one plot per scenario, of its first seed.",
)
@click.option(
    "--jobs",
    type=click.IntRange(1, 256),
    default=os.cpu_count() or 1,
    show_default="all cores",
    help="Parallel processes.",
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
    """Simulate a fleet, and compare the cost and the latency of scaling policies.

    SCENARIO.yaml describes traffic, engine, objectives, limits and faults; see docs/simulator.md. Without a scenario,
    --trace assumes an 8B model on one accelerator and 1 to 32 replicas. Its objectives are a TTFT p95 of 1 s and a TPOT
    p95 of 40 ms.
    """
    try:
        wanted = [scenarios.load(path) for path in files]
        if trace is not None:
            wanted = [traffic.traced(one, trace) for one in wanted] or [traffic.defaults(trace)]
    except scenarios.ScenarioError as error:
        click.echo(f"Error: {error}", err=True)
        raise click.exceptions.Exit(2) from error
    if not wanted:
        raise click.UsageError("Give a SCENARIO.yaml, or --trace with your traffic.")
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
    """Print one table for each scenario, with means over the seeds."""
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
