"""Command of an evaluation: read the configuration, run it with a progress bar, write the report."""

import asyncio
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import rich.console
import rich.progress
import rich.table

from slipstream_runtime import config_file
from slipstream_runtime.errors import EngineError, UnsuitableError
from slipstream_runtime.evaluate.quality import run
from slipstream_runtime.evaluate.quality.config import Model, QualityConfig
from slipstream_runtime.evaluate.quality.observations import Subject
from slipstream_runtime.evaluate.quality.report import Report, explain, figure, percent
from slipstream_runtime.evaluate.quality.statistics import Verdict
from slipstream_runtime.model_files import sources

REPORT: Final = "report.json"
PAGE: Final = "report.md"
EXIT_CODES: Final = {None: 0, Verdict.PASSED: 0, Verdict.FAILED: 3, Verdict.INCONCLUSIVE: 4}
"""Verdict -> exit status. 1 is a failure that another run may get over, 2 a wrong configuration."""


def main(file: Path, *, cache: Path, output: str) -> int:
    """Run the evaluation of the file and return the exit status."""
    try:
        config = config_file.load(file, QualityConfig)
        with _progress() as progress:
            report = asyncio.run(
                run.run(
                    config,
                    cache=cache,
                    load=lambda model: _subject(model, config, cache=cache),
                    progress=progress,
                )
            )
        _write(config.output, report)
    except EngineError as error:
        sys.stderr.write(f"{error.reason}\n")
        return error.exit_code
    if output == "json":
        json.dump(report.as_json(), sys.stdout, ensure_ascii=False)
        sys.stdout.write("\n")
    else:
        _show(report)
    return EXIT_CODES[report.verdict]


def _subject(model: Model, config: QualityConfig, *, cache: Path) -> Subject:
    if model.url is not None:
        from slipstream_runtime.evaluate.quality.endpoint import Endpoint  # noqa: PLC0415

        return Endpoint(model, concurrency=config.concurrency, timeout=config.timeout)
    from slipstream_runtime.evaluate.quality.checkpoint import Checkpoint  # noqa: PLC0415

    assert model.path is not None
    folder = Path(model.path)
    if "://" in model.path:
        folder = sources.resolve(sources.parse(model.path), cache=cache, token=sources.token())
    elif not folder.is_dir():
        # NB: the library takes a name that is no folder for a repository of the hub.
        raise UnsuitableError(f"path: {folder} is no folder. Use a folder, or hf://org/name.")
    return Checkpoint(folder, batch=config.concurrency)


def _write(folder: Path, report: Report) -> None:
    """Write both forms. A reader never sees half of one."""
    forms = {
        REPORT: json.dumps(report.as_json(), indent=2, ensure_ascii=False) + "\n",
        PAGE: report.as_markdown(),
    }
    try:
        for name, content in forms.items():
            part = folder / f".{name}.part"
            part.write_text(content, encoding="utf-8")
            part.rename(folder / name)
    except OSError as error:
        raise EngineError(f"output: {error.strerror}: {folder}") from error


@contextmanager
def _progress() -> Iterator[run.Progress]:
    """Show a progress bar on stderr if it is a terminal."""
    console = rich.console.Console(stderr=True)
    columns = (
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TimeRemainingColumn(),
    )
    with rich.progress.Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        known: dict[str, rich.progress.TaskID] = {}

        def update(role: str, done: int, total: int) -> None:
            if role not in known:
                known[role] = bar.add_task(role, total=total)
            bar.update(known[role], completed=done, total=total)

        yield update


def _show(report: Report) -> None:
    console = rich.console.Console()
    table = rich.table.Table(
        "metric", "items", "score", "baseline", "loss, 95 %", "verdict", box=None
    )
    for result in report.results:
        score = result.total
        loss = score.comparison.loss if score.comparison else None
        table.add_row(
            result.name,
            str(score.items),
            figure(result.name, score.candidate),
            figure(result.name, score.baseline),
            f"{percent(loss.low)} to {percent(loss.high)}" if loss else "-",
            result.verdict or "-",
        )
    console.print(table)
    for result in report.results:
        if line := explain(result):
            console.print(line)
