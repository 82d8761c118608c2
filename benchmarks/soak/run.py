"""`make soak`: what must hold every time, tried often enough to believe it."""

import random
import statistics
import tempfile
from pathlib import Path

import click
from rich.console import Console
from rich.progress import track

from benchmarks import report
from tests import stopping
from tests.engines import write_model

FOLDER = Path(__file__).parent
TRIALS = 50

MEANINGS = {
    "stops": "engines that got SIGTERM with 4 streams and 1 other request in flight",
    "stops_clean": "of these: exit 0 in time, every client answered or told, new requests refused with 503",
    "stops_silent_cuts": "answers that were cut without an error",
    "stop_seconds_max": "longest time from SIGTERM to the exit beyond the drain's limit",
    "stop_seconds_p50": "median time from SIGTERM to the exit",
}


@click.command()
@click.option("--trials", default=TRIALS, show_default=True, help="How many engines to stop.")
@click.option("--seed", default=0, show_default=True, help="Of lengths and moments.")
def main(*, trials: int, seed: int) -> None:
    """Start a real engine, load it, stop it; again and again."""
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory() as folder:
        write_model(Path(folder))
        found = []
        for number in track(range(trials), "stopping engines", console=console):
            trial = stopping.run(Path(folder), dice=random.Random(seed + number))
            found.append(trial)
            if not trial.clean:
                console.print(f"trial {number}: {trial}")
    report.publish(
        folder=FOLDER,
        title="What must hold every time",
        command="make soak",
        figures={
            "stops": trials,
            "stops_clean": sum(trial.clean for trial in found),
            "stops_silent_cuts": sum(trial.silent for trial in found),
            "stop_seconds_max": round(max(t.seconds - t.drain_seconds for t in found), 1),
            "stop_seconds_p50": round(statistics.median(t.seconds for t in found), 1),
        },
        meanings=MEANINGS,
    )


if __name__ == "__main__":
    main()
