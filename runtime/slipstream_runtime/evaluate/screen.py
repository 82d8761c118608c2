"""Terminal view of a load run: a progress bar on stderr, a table on stdout."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import rich.console
import rich.progress
import rich.table

from slipstream_runtime.evaluate import records


@contextmanager
def progress(duration: float) -> Iterator[Callable[[int, int], None] | None]:
    """Show a progress bar over the run's time; yield None if stderr is not a terminal."""
    console = rich.console.Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    begin = time.monotonic()
    columns = (rich.progress.BarColumn(), rich.progress.TextColumn("{task.description}"))
    with rich.progress.Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("starting", total=duration)

        def update(sent: int, finished: int) -> None:
            bar.update(
                task,
                completed=min(duration, time.monotonic() - begin),
                description=f"{finished} finished, {sent - finished} in flight",
            )

        yield update


def show(summary: records.Summary) -> None:
    """Print the summary."""
    console = rich.console.Console()
    table = rich.table.Table("", "mean", "p50", "p95", "p99", "n", box=None)
    for name in ("ttft", "tpot", "e2e"):
        latency: records.Latency = getattr(summary, name)
        values = (latency.mean, latency.p50, latency.p95, latency.p99)
        table.add_row(name, *map(_duration, values), str(latency.samples))
    console.print(table)
    console.print(
        f"{summary.requests} requests in {summary.seconds:.1f} s: {summary.succeeded} succeeded, "
        f"{summary.failed} failed, {summary.retried} retried ({summary.recovered} recovered)"
    )
    console.print(
        f"{summary.requests_per_second:.2f} requests/s, "
        f"{summary.output_tokens_per_second:.0f} output tokens/s"
    )
    for name, number in summary.errors.items():
        console.print(f"{name}: {number}")


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"
