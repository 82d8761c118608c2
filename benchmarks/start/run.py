"""`make bench-start`: from the start of the process to the first answer, stock vLLM and Slipstream's engine."""

import statistics
import tempfile
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress

from benchmarks import report, servers

FOLDER = Path(__file__).parent
ROUNDS = 3

MEANINGS = {
    "stock_first_s": "vllm serve, as shipped, with empty caches",
    "stock_eager_first_s": "vllm serve --enforce-eager, with empty caches",
    "first_s": "slipstream_runtime.engine with empty caches",
    "second_s": "slipstream_runtime.engine with the caches of the first start",
    "speedup_second": "stock_first_s / second_s",
    "speedup_second_eager": "stock_eager_first_s / second_s",
}


@click.command()
@click.option("--rounds", default=ROUNDS, show_default=True, help="Starts of each kind.")
def main(*, rounds: int) -> None:
    """Start each in turn, so that what the machine does meanwhile befalls all alike."""
    found: dict[str, list[float]] = {name: [] for name in MEANINGS if name.endswith("_s")}
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("starting servers", total=4 * rounds)
        for _ in range(rounds):
            for name, seconds in _round():
                found[name].append(seconds)
                progress.advance(task)
    figures = {name: round(statistics.median(values), 1) for name, values in found.items()}
    figures["speedup_second"] = round(figures["stock_first_s"] / figures["second_s"], 2)
    figures["speedup_second_eager"] = round(figures["stock_eager_first_s"] / figures["second_s"], 2)
    report.publish(
        folder=FOLDER,
        title="From the start of the process to the first answer",
        command="make bench-start",
        figures=figures,
        meanings=MEANINGS,
    )


def _round() -> list[tuple[str, float]]:
    with tempfile.TemporaryDirectory() as folder:
        homes = {name: Path(folder, name) for name in ("stock", "eager", "slipstream")}
        for home in homes.values():
            home.mkdir()
        seconds = []
        with servers.stock(homes["stock"]) as server:
            seconds.append(("stock_first_s", server.start_seconds))
        with servers.stock(homes["eager"], words=["--enforce-eager"]) as server:
            seconds.append(("stock_eager_first_s", server.start_seconds))
        for name in ("first_s", "second_s"):
            with servers.slipstream(homes["slipstream"]) as server:
                seconds.append((name, server.start_seconds))
        return seconds


if __name__ == "__main__":
    main()
