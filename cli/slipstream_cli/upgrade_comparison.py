"""`slipstream upgrade compare`: answers and latency of two running engines, such as of two versions of vLLM."""

import asyncio
import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from slipstream_cli import options
from slipstream_operator.api import units
from slipstream_runtime.errors import EngineError
from slipstream_runtime.evaluate import pairs, traffic
from slipstream_runtime.evaluate.quality import datasets, run, statistics
from slipstream_runtime.evaluate.quality.config import Dataset, Metric, Model, QualityConfig
from slipstream_runtime.evaluate.quality.endpoint import Endpoint
from slipstream_runtime.evaluate.quality.metrics import Name
from slipstream_runtime.evaluate.quality.statistics import Comparison, Verdict

EXIT_CODES: Final = {Verdict.PASSED: 0, Verdict.FAILED: 3, Verdict.INCONCLUSIVE: 4}
"""Those of an evaluation."""
_TITLES: Final = {
    "answers": "tokens equal",
    "ttft": "time to first token",
    "tpot": "time per output token",
    "e2e": "time of a request",
}


@dataclasses.dataclass(frozen=True)
class Row:
    """Measure of both engines. Latencies are in seconds, equal tokens a share."""

    name: str
    baseline: float
    candidate: float
    loss: statistics.Interval
    verdict: Verdict


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of a comparison."""

    baseline: str
    candidate: str
    model: str
    prompts: Path
    key_file: Path | None
    clients: int
    pairs: int
    seconds: float
    max_tokens: int
    most_answers: float
    most_latency: float


def _share(_: click.Context, parameter: click.Parameter, value: str) -> float:
    try:
        share = units.share(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    if not 0 < share < 1:
        raise click.BadParameter(f'"{value}" is not above 0% and below 100%.')
    return share


@click.command(short_help="Compare answers and latency of two running engines.")
@click.option("--baseline", required=True, metavar="URL", help="Server of the present version.")
@click.option("--candidate", required=True, metavar="URL", help="Server of the other version.")
@click.option("--model", required=True, help="Name of the model at both.")
@click.option(
    "--prompts",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    required=True,
    help="File of JSON lines with prompt or messages.",
)
@click.option(
    "--key-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="File with the API key of both.",
)
@click.option(
    "--clients",
    type=click.IntRange(1, 256),
    default=4,
    show_default=True,
    help="Requests in flight.",
)
@click.option(
    "--pairs",
    "count",
    type=click.IntRange(pairs.LEAST, 1000),
    default=pairs.LEAST,
    show_default=True,
    help="Runs of each server under load.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(0.1, 600),
    default=3.0,
    show_default=True,
    help="Length of a run.",
)
@click.option(
    "--max-tokens",
    type=click.IntRange(2, 4096),
    default=64,
    show_default=True,
    help="Length of an answer.",
)
@click.option(
    "--max-difference",
    callback=_share,
    default="5%",
    show_default=True,
    help="Share of tokens that may differ.",
)
@click.option(
    "--max-growth",
    callback=_share,
    default="10%",
    show_default=True,
    help="Growth of a latency that is accepted.",
)
@options.output
def compare(
    baseline: str,
    candidate: str,
    model: str,
    prompts: Path,
    key_file: Path | None,
    clients: int,
    count: int,
    seconds: float,
    max_tokens: int,
    max_difference: float,
    max_growth: float,
    output: str,
) -> None:
    """Compare two running engines: token by token without sampling, then their latency in turn under the same load.

    A measure passes only if the upper end of its 95 % interval is within what is accepted. Both engines should have
    the same accelerators and no other traffic. The prompts go to both.

    The exit status is 0 if all passed, 3 if one got worse, and 4 if more pairs or prompts are needed. It is 2 for wrong
    input, and 1 if a server did not answer.
    """
    settings = Settings(
        baseline, candidate, model, prompts, key_file, clients, count, seconds, max_tokens,
        max_difference, max_growth,
    )  # fmt: skip
    try:
        rows, failed = asyncio.run(_compare(settings))
    except EngineError as error:
        click.echo(f"Error: {error.reason}", err=True)
        raise click.exceptions.Exit(error.exit_code) from error
    verdict = _verdict(rows, failed)
    if output == "json":
        click.echo(json.dumps(_plain(rows, failed, verdict), indent=2))
    else:
        _show(rows, failed, verdict)
    raise click.exceptions.Exit(EXIT_CODES[verdict])


async def _compare(settings: Settings) -> tuple[list[Row], int]:
    """Return the measures, and the requests that only the candidate failed."""
    loaded = datasets.load(
        Dataset(uri=str(settings.prompts), fields={}), cache=Path(), most=None, seed=0
    )
    with _progress() as progress:
        task = progress.add_task("answers", total=2 * len(loaded.items))
        answers = await _answers(settings, progress, task)
        task = progress.add_task("latency", total=settings.pairs)
        measured = await pairs.measure(
            _plan(settings, settings.baseline, loaded),
            _plan(settings, settings.candidate, loaded),
            pairs=settings.pairs,
            progress=lambda done: progress.update(task, completed=done),
        )
    rows = [answers]
    for growth in measured.growths:
        rows.append(
            Row(
                growth.measure,
                growth.baseline,
                growth.candidate,
                growth.comparison.loss,
                statistics.judge(growth.comparison, most=settings.most_latency),
            )
        )
    return rows, max(0, measured.failed_candidate - measured.failed_baseline)


async def _answers(settings: Settings, progress: Progress, task: Any) -> Row:
    done: dict[str, int] = {}

    def update(role: str, finished: int, total: int) -> None:
        done[role] = finished
        progress.update(task, completed=sum(done.values()))

    with tempfile.TemporaryDirectory() as folder:
        config = QualityConfig(
            baseline=_model(settings, settings.baseline, "baseline"),
            candidate=_model(settings, settings.candidate, "candidate"),
            dataset=Dataset(uri=str(settings.prompts), fields={}),
            metrics=(Metric(name=Name.AGREEMENT, max_regression=settings.most_answers),),
            max_tokens=settings.max_tokens,
            concurrency=settings.clients,
            output=Path(folder),
        )
        report = await run.run(
            config,
            cache=Path(folder),
            load=lambda model: Endpoint(
                model, concurrency=config.concurrency, timeout=config.timeout
            ),
            progress=update,
        )
    total = report.results[0].total
    found: Comparison | None = total.comparison
    assert found is not None
    return Row(
        "answers",
        1.0,
        1.0 - found.loss.estimate,
        found.loss,
        statistics.judge(found, most=settings.most_answers),
    )


def _model(settings: Settings, url: str, identity: str) -> Model:
    return Model(url=url, model=settings.model, key_file=settings.key_file, identity=identity)


def _plan(settings: Settings, url: str, loaded: datasets.Loaded) -> traffic.Plan:
    key = settings.key_file.read_text().strip() if settings.key_file else None
    return traffic.Plan(
        url=url.rstrip("/").removesuffix("/v1"),
        model=settings.model,
        duration=settings.seconds,
        concurrency=settings.clients,
        max_tokens=settings.max_tokens,
        ignore_eos=True,
        prompts=tuple(
            {"messages": item.conversation, "temperature": 0} for item in loaded.items if item.asks
        ),
        headers={"Authorization": f"Bearer {key}"} if key else {},
    )


def _verdict(rows: list[Row], failed: int) -> Verdict:
    verdicts = {row.verdict for row in rows}
    if failed or Verdict.FAILED in verdicts:
        return Verdict.FAILED
    complete = len(rows) == len(_TITLES) and Verdict.INCONCLUSIVE not in verdicts
    return Verdict.PASSED if complete else Verdict.INCONCLUSIVE


def _progress() -> Progress:
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def _plain(rows: list[Row], failed: int, verdict: Verdict) -> dict[str, object]:
    return {
        "verdict": verdict,
        "failedRequests": failed,
        "measures": [
            {
                "name": row.name,
                "baseline": row.baseline,
                "candidate": row.candidate,
                "loss": dataclasses.asdict(row.loss),
                "verdict": row.verdict,
            }
            for row in rows
        ],
    }


def _show(rows: list[Row], failed: int, verdict: Verdict) -> None:
    console = Console(width=100, highlight=False, markup=False)
    table = Table("measure", "baseline", "candidate", "worse by, 95 %", "verdict", box=None)
    for row in rows:
        shown = _percent if row.name == "answers" else _milliseconds
        table.add_row(
            _TITLES[row.name],
            shown(row.baseline),
            shown(row.candidate),
            f"{_percent(row.loss.low)} to {_percent(row.loss.high)}",
            row.verdict,
        )
    console.print(table)
    if failed:
        console.print(f"The candidate failed {failed} requests more than the baseline.")
    missing = [title for name, title in _TITLES.items() if name not in {row.name for row in rows}]
    if missing:
        console.print(f"Not measured: {', '.join(missing)}.")
    console.print(f"{verdict}.")


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.1f} ms"
