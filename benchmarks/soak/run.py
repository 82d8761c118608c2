"""`make soak`: what must hold every time, tried often enough to believe it."""

import random
import statistics
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress, track

from benchmarks import report
from dev.cluster.lifecycle import Cluster
from tests.support import clusters, disturbances, stopping
from tests.support.disturbances import Disturbance, Site, Trial
from tests.support.engines import write_model

FOLDER = Path(__file__).parent
TRIALS = 50
ROUNDS = 20
CLUSTER = "soak"

MEANINGS = {
    "stops": "engines that got SIGTERM with 4 streams and 1 other request in flight",
    "stops_clean": "of these: exit 0 in time, an answer or an error for every client, new requests refused with 503",
    "stops_silent_cuts": "answers that were cut without an error",
    "stop_seconds_max": "longest time from SIGTERM to the exit beyond the drain's limit",
    "stop_seconds_p50": "median time from SIGTERM to the exit",
    "rounds": "disturbances of a service under steady load, on the real cluster",
    "requests": "requests to the service's address during the disturbances",
    "failures": "requests without a complete answer; where an engine was killed, also without an error event",
    "broken_streams": "streams of a killed engine that ended with one error event",
    "retries": "requests that the router retried on another engine",
}


@click.command()
@click.option("--trials", default=TRIALS, show_default=True, help="How many engines to stop.")
@click.option(
    "--rounds",
    default=ROUNDS,
    show_default=True,
    help="Of each disturbance; of the slowest a quarter.",
)
@click.option(
    "--only", help="Of the disturbances, those whose names contain this.", metavar="WORDS"
)
@click.option("--seed", default=0, show_default=True, help="Of lengths and moments.")
def main(*, trials: int, rounds: int, only: str | None, seed: int) -> None:
    """Stop real engines under load, again and again; then disturb a routed service in every way."""
    console = Console(stderr=True)
    chosen = [each for each in disturbances.ALL if only is None or only in each.name]
    figures: dict[str, float] = {}
    details, clean = "", True
    if trials:
        stops = list(_stop(trials, console=console, seed=seed))
        figures |= _of_stops(stops)
        clean &= all(trial.clean for trial in stops)
    if rounds and chosen:
        disturbed = list(_disturb(chosen, rounds, console=console, seed=seed))
        figures |= _of_disturbances(disturbed)
        details = _table(disturbed)
        clean &= all(trial.clean for trial in disturbed)
    report.publish(
        folder=FOLDER,
        title="Reliability under disturbances",
        command="make soak",
        figures=figures,
        meanings=MEANINGS,
        details=details,
    )
    if not clean:
        raise click.ClickException("something was lost: see above")


def _stop(trials: int, *, console: Console, seed: int) -> Iterator[stopping.Trial]:
    with tempfile.TemporaryDirectory() as folder:
        write_model(Path(folder))
        for number in track(range(trials), "stopping engines", console=console):
            trial = stopping.run(Path(folder), dice=random.Random(seed + number))
            if not trial.clean:
                console.print(f"trial {number}: {trial}")
            yield trial


def _disturb(
    chosen: Sequence[Disturbance], rounds: int, *, console: Console, seed: int
) -> Iterator[Trial]:
    with clusters.running(CLUSTER) as kube, Progress(console=console) as progress:
        for disturbance in chosen:
            count = disturbance.rounds(rounds)
            task = progress.add_task(disturbance.name, total=count)
            with clusters.namespace(kube, disturbance.name) as namespace:
                trial = disturbances.run(
                    Site(Cluster(name=CLUSTER), kube, namespace),
                    disturbance,
                    rounds=count,
                    dice=random.Random(seed),
                    progress=lambda task=task: progress.advance(task),
                )
            if not trial.clean:
                console.print(f"{disturbance.name}: {trial}")
            yield trial


def _of_stops(trials: Sequence[stopping.Trial]) -> Mapping[str, float]:
    return {
        "stops": len(trials),
        "stops_clean": sum(trial.clean for trial in trials),
        "stops_silent_cuts": sum(trial.silent for trial in trials),
        "stop_seconds_max": round(max(t.seconds - t.drain_seconds for t in trials), 1),
        "stop_seconds_p50": round(statistics.median(t.seconds for t in trials), 1),
    }


def _of_disturbances(trials: Sequence[Trial]) -> Mapping[str, float]:
    return {
        "rounds": sum(trial.rounds for trial in trials),
        "requests": sum(trial.requests for trial in trials),
        "failures": sum(trial.lost for trial in trials),
        "broken_streams": sum(t.broken for t in trials if t.disturbance.breaks_streams),
        "retries": sum(trial.retries for trial in trials),
    }


def _table(trials: Sequence[Trial]) -> str:
    rows = "".join(
        f"| {trial.disturbance.name} | {trial.rounds} | {trial.requests} | {trial.lost} "
        f"| {trial.broken} | {trial.retries} |\n"
        for trial in trials
    )
    return (
        "A simulated service, 6 clients that never pause and keep their connections, two of them for complete\n"
        "answers; behind the router, unless said otherwise.\n\n"
        "| disturbance | rounds | requests | failures | broken streams | retries |\n"
        f"|---|---:|---:|---:|---:|---:|\n{rows}"
    )


if __name__ == "__main__":
    main()
