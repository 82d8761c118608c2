"""`slipstream build`: run a ModelBuild on this machine, or show what it would cost."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from slipstream_cli import (
    build_recipe,
    build_stages,
    build_tables,
    checkpoints,
    documents,
    options,
)
from slipstream_cli.build_recipe import Places
from slipstream_operator import names
from slipstream_operator.errors import PermanentError
from slipstream_runtime import build_support, contract

_FILE: Final = click.Path(path_type=Path, exists=True, dir_okay=False)
_CACHE: Final = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "slipstream"
_GPU: Final = Path("/dev/nvidia0")
_WRONG: Final = 2
REJECTED: Final = {"Failed": 3, "Inconclusive": 4}
"""Verdict of an evaluation that ends a build -> exit status."""


def _datasets(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> dict[str, Path]:
    found = {}
    for value in values:
        name, separator, path = value.partition("=")
        if not separator or not name or not path:
            raise click.BadParameter(f'"{value}" is not NAME=FILE.')
        found[name] = Path(path)
    return found


@click.command(short_help="Run a ModelBuild on this machine, or show its plan.")
@click.option("-f", "--file", "file", type=_FILE, help="File with the ModelBuild.")
@click.option("--name", help="Name of the ModelBuild, if the file holds more than one.")
@click.option("--local", is_flag=True, help="Run here, without a cluster.")
@click.option("--plan", "dry", is_flag=True, help="Show memory, disk and time, and run nothing.")
@click.option(
    "--compare",
    "compared",
    nargs=2,
    metavar="URI URI",
    help="Show how two artifacts differ, and run nothing.",
)
@click.option("--plain-http", is_flag=True, help="Reach the registries of --compare without TLS.")
@click.option("--source", metavar="URI", help="Checkpoint in place of spec.source.")
@click.option(
    "--output-uri", metavar="URI", help="Place of the artifact instead of spec.output.uri."
)
@click.option(
    "--dataset",
    "datasets",
    multiple=True,
    callback=_datasets,
    metavar="NAME=FILE",
    help="File in place of a ConfigMap or claim of a dataset. May be repeated.",
)
@click.option(
    "--python",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Python of an environment with requirements/builder.txt.",
    show_default="this one, or ~/.cache/slipstream/builder",
)
@click.option(
    "--engine-python",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Python with vLLM, which measures drafts.",
    show_default="--python",
)
@click.option(
    "--device",
    type=click.Choice(["cpu", "cuda"]),
    help="Device of the steps.",
    show_default="cuda if there is a GPU",
)
@click.option("--memory", type=click.IntRange(min=1), metavar="BYTES", help="Memory of the device.")
@click.option(
    "--work",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of finished steps.",
    show_default="one below ~/.cache/slipstream/builds for each recipe",
)
@options.output
def build(
    file: Path | None,
    name: str | None,
    local: bool,
    dry: bool,
    compared: tuple[str, str] | None,
    plain_http: bool,
    source: str | None,
    output_uri: str | None,
    datasets: dict[str, Path],
    python: Path | None,
    engine_python: Path | None,
    device: build_support.Device | None,
    memory: int | None,
    work: Path | None,
    output: str,
) -> None:
    """Run the steps of a ModelBuild on this machine, with the same stages as in a cluster.

    A build that was interrupted resumes with the next run. The artifact appears at its place only when it is whole and
    its quality has passed.

    The exit status is 0 if the artifact is published, 1 if another run may succeed, and 2 if the build can't work. It
    is 3 if the loss of quality is too high, and 4 if there are too few items to tell.

    With --compare it is 0 if all files are equal, 1 if some differ, and 2 if an artifact can't be read.
    """
    if compared:
        _compare(compared, python, plain_http, output)
        return
    if file is None:
        raise click.UsageError(
            "Name the file of a ModelBuild with -f, or two artifacts with --compare."
        )
    if not local and not dry:
        raise click.UsageError("In a cluster, run `kubectl apply -f`. Here, add --local or --plan.")
    try:
        given = documents.read(file)
        chosen = documents.choose(
            given, file, names.MODEL_BUILD, name=name, hint="name one with -f"
        )
        recipe = build_recipe.make(
            chosen,
            given,
            Places(source, output_uri, datasets, work, _CACHE, dry=dry),
            device=device or ("cuda" if _GPU.exists() else "cpu"),
            memory=memory,
        )
        builder = build_stages.builder(python, _CACHE)
    except checkpoints.UnreadableError as error:
        click.echo(f"Error: {error}", err=True)
        raise click.exceptions.Exit(_WRONG) from error
    except PermanentError as error:
        click.echo(f"{error.reason}: {error.message}", err=True)
        raise click.exceptions.Exit(_WRONG) from error
    folder = Path(recipe["work"])
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / contract.BUILD_FILE
    config.write_text(json.dumps(recipe, indent=1))
    if dry:
        _plan(builder, config, output)
        return
    try:
        _run(recipe, config, builder, engine_python or builder, output)
    except KeyboardInterrupt as error:
        click.echo("Interrupted. Run the build again: it resumes.", err=True)
        raise click.exceptions.Exit(1) from error


def _compare(uris: tuple[str, str], python: Path | None, plain_http: bool, output: str) -> None:
    first, second = (
        uri if "://" in uri else f"file://{Path(uri).expanduser().resolve()}" for uri in uris
    )
    try:
        builder = build_stages.builder(python, _CACHE)
    except checkpoints.UnreadableError as error:
        click.echo(f"Error: {error}", err=True)
        raise click.exceptions.Exit(_WRONG) from error
    ended = build_stages.compare(builder, first, second, plain_http=plain_http)
    if not ended.report:
        click.echo(ended.text, err=True)
    elif output == "json":
        click.echo(json.dumps(ended.report, indent=2))
    else:
        build_tables.show_comparison(ended.report)
    raise click.exceptions.Exit(ended.code)


def _plan(python: Path, config: Path, output: str) -> None:
    ended = build_stages.plan(python, config)
    if ended.code:
        click.echo(ended.text, err=True)
        raise click.exceptions.Exit(ended.code)
    if output == "json":
        click.echo(json.dumps(ended.report, indent=2))
    else:
        build_tables.show_plan(ended.report)


def _run(recipe: Mapping[str, Any], config: Path, python: Path, engine: Path, output: str) -> None:
    kinds = [next(iter(step)) for step in recipe["steps"]]
    stages = contract.build_stages(kinds, evaluated="quality" in recipe)
    drafts = _drafts(recipe["steps"])
    reports = []
    for stage in stages:
        with _bar(stage) as show:
            ended = build_stages.run(
                engine if stage in drafts else python,
                config,
                stage,
                logs=config.parent / "logs",
                show=show,
            )
        if ended.report:
            reports.append(ended.report)
            click.echo(build_tables.line(ended.report), err=True)
            if note := ended.report.get("note"):
                click.echo(f"Warning: {note}", err=True)
        if ended.code:
            _show(reports, output)
            reason = ended.report.get("reason", ended.text)
            click.echo(f"{reason}\nLog: {config.parent / 'logs' / stage}.log", err=True)
            verdict = ended.report.get("verdict")
            raise click.exceptions.Exit(REJECTED.get(str(verdict), ended.code))
    _show(reports, output)


def _drafts(steps: Sequence[Mapping[str, Any]]) -> frozenset[str]:
    """Return the evaluations of drafts: after the step that makes one, its checkpoint stays a draft."""
    found: set[str] = set()
    for index, step in enumerate(steps):
        if found or step.get("distill", {}).get("purpose") == "Draft":
            found.add(contract.quality_stage(index))
    return frozenset(found)


def _show(reports: list[dict[str, Any]], output: str) -> None:
    if output == "json":
        click.echo(json.dumps(build_tables.plain(reports), indent=2))
    elif reports:
        build_tables.show(reports)


@contextmanager
def _bar(stage: str) -> Iterator[build_stages.Show]:
    """Show the progress of a stage on stderr if it is a terminal."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[loss]}"),
    )
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task(stage, total=None, unit="", loss="")

        def show(status: Mapping[str, Any]) -> None:
            loss = status.get("loss")
            bar.update(
                task,
                completed=status.get("done") or 0,
                total=status.get("total"),
                unit=status.get("unit") or "",
                loss=f"loss {loss:.3f}" if isinstance(loss, float) else "",
            )

        yield show
