"""`make bench-cluster-vs-simulator`: the same traffic and the same faults in a real cluster and in the simulator."""

import concurrent.futures
import os
import statistics
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import click

from benchmarks import report
from benchmarks.cluster_vs_simulator import cluster
from benchmarks.cluster_vs_simulator.cluster import Recording
from benchmarks.cluster_vs_simulator.comparison import ENOUGH, SLACK, Check, Comparison
from dev.cluster.kube import Kube
from slipstream_operator.api import units
from slipstream_simulator import plots, scenarios, simulation
from slipstream_simulator.policies.slipstream import Slipstream
from slipstream_simulator.scenarios import Scenario
from slipstream_simulator.simulation import Run
from tests.support import clusters, faults

FOLDER: Final = Path(__file__).parent
NAMESPACE: Final = "versus"
SEED: Final = 0
"""Of the traffic that the cluster gets."""

MEANINGS: Final = {
    "matches": "whether all checks of the table below hold",
    "decisions_inside": f"share of the time in which the count in status is what a seed shows, or {SLACK} beside it: "
    f"at least {ENOUGH:g}",
    "decisions_inside_exactly": "the same without this tolerance",
    "difference": "mean difference of the counts of cluster and simulator under the same traffic, in replicas",
    "difference_by_luck": "the same between the simulator's runs with this seed and with other seeds",
    "removed_in_outage": "pods removed while Prometheus was down; must be 0",
    "changed_by_restart": "changes of the count, and pods taken away, between the operator that was killed and "
    "the next one's first decisions: 0",
    "outage_s": "seconds from the end of Prometheus' pod until another one was ready",
    "leaderless_s": "seconds from the end of the operator's pods until another one led",
    "cold_start_s": "seconds from a pod's creation until it is ready: median",
    "requests": "requests sent to the router",
    "failed": "requests without a complete answer",
    "wall_s": "seconds that the benchmark took",
}


@dataclass(frozen=True)
class Settings:
    """How the cluster's operator is set; in seconds."""

    tick: float
    window: float
    down_window: float

    @classmethod
    def of(cls, kube: Kube) -> "Settings":
        """As they are in force."""
        profile = kube.get("ServingProfile", None, "local")
        operator = kube.get("Deployment", faults.SYSTEM, "slipstream-operator")
        assert profile is not None and operator is not None
        (container,) = operator["spec"]["template"]["spec"]["containers"]
        environment = {one["name"]: one.get("value") for one in container["env"]}
        return cls(
            tick=float(environment["SLIPSTREAM_TICK_SECONDS"]),
            window=units.seconds(profile["spec"]["prometheus"]["window"]),
            down_window=units.seconds(profile["spec"]["scaling"]["scaleDownWindow"]),
        )


@click.command()
@click.option(
    "--seeds", type=click.IntRange(2), help="Simulated runs; the scenario says how many otherwise."
)
@click.option("--jobs", type=click.IntRange(1), default=os.cpu_count() or 1, help="Processes.")
def main(seeds: int | None, jobs: int) -> None:
    """Serve the scenario on a cluster of its own, simulate it with many seeds, and write RESULTS.md and a plot."""
    began = time.monotonic()
    wanted = scenarios.load(FOLDER / "scenario.yaml")
    with clusters.running("versus") as kube:
        kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
        settings = Settings.of(kube)
        recording = cluster.play(kube, wanted, namespace=NAMESPACE, seed=SEED)
    simulated = simulate(wanted, settings, seeds=seeds or wanted.seeds, jobs=jobs)
    comparison = Comparison(recording, recording.run(), simulated)
    plots.plot({"cluster": comparison.cluster, "simulator": simulated[0]}, FOLDER)
    publish(comparison, wall=time.monotonic() - began)


def simulate(wanted: Scenario, settings: Settings, *, seeds: int, jobs: int) -> list[Run]:
    """The runs of all seeds, that of the cluster's traffic first."""
    with concurrent.futures.ProcessPoolExecutor(jobs) as pool:
        return list(pool.map(partial(_simulate, wanted, settings), range(SEED, SEED + seeds)))


def _simulate(wanted: Scenario, settings: Settings, seed: int) -> Run:
    policy = Slipstream(
        tick=settings.tick,
        window=settings.window,
        down_window=settings.down_window,
        max_sequences=wanted.engine.max_sequences,
    )
    return simulation.run(wanted, policy, seed=seed)


def publish(comparison: Comparison, *, wall: float) -> None:
    """Figures for machines, and a table of what was compared."""
    recording, answers = comparison.recording, comparison.recording.answers
    figures = {
        "matches": "yes" if comparison.matches else "no",
        "decisions_inside": round(comparison.inside(slack=SLACK), 3),
        "decisions_inside_exactly": round(comparison.inside(slack=0), 3),
        "difference": round(comparison.apart, 2),
        "difference_by_luck": round(comparison.apart_by_luck, 2),
        "removed_in_outage": comparison.removed_in_outage,
        "changed_by_restart": comparison.changed_by_restart,
        "outage_s": round(sum(until - since for since, until in recording.blind)),
        "leaderless_s": round(sum(until - since for since, until in recording.restarted)),
        "cold_start_s": _cold_start(comparison.cluster),
        "requests": len(answers),
        "failed": sum(not one.succeeded for one in answers),
        "wall_s": round(wall),
    }
    report.publish(
        folder=FOLDER,
        title="The cluster compared with the simulator",
        command="make bench-cluster-vs-simulator",
        figures=figures,
        meanings=MEANINGS,
        details=_details(comparison),
    )


def _cold_start(run: Run) -> float | None:
    times = [
        pod.ready - pod.created for pod in run.pods if pod.created > 0 and pod.ready is not None
    ]
    return round(statistics.median(times), 1) if times else None


def _details(comparison: Comparison) -> str:
    checks = "\n".join(map(_row, comparison.checks))
    return (
        f"The simulator runs the scenario with {len(comparison.simulated)} seeds, and the cluster gets the requests of "
        "the first one. Each value of the cluster must be within the range of the seeds, plus or minus the slack. The "
        "slack was set before the cluster ran.\n\n"
        "| | cluster | simulator, same traffic | all seeds | slack | holds |\n|---|---:|---:|---:|---:|---|\n"
        f"{checks}\n\n"
        "Decisions in the status of the service:\n\n"
        "| second | replicas | reason |\n|---:|---:|---|\n"
        f"{_decisions(comparison.recording)}\n\n"
        f"![Load, replicas, latency and attainment]({comparison.cluster.scenario.name}.png)\n"
    )


def _row(check: Check) -> str:
    low, high = f"{check.low:.4g}", f"{check.high:.4g}"
    return (
        f"| {check.name} | {check.cluster:.4g} | {check.simulated:.4g} | {low} to {high} | {check.slack:g} | "
        f"{'yes' if check.holds else 'no'} |"
    )


def _decisions(recording: Recording) -> str:
    """Each new count and each begin and end of not knowing."""
    rows: list[str] = []
    before: tuple[int, bool] | None = None
    for one in recording.observations:
        now = (one.desired, one.reason.startswith("Holding"))
        if now != before:
            rows.append(f"| {one.at:.0f} | {one.desired} | {one.reason} |")
        before = now
    return "\n".join(rows)


if __name__ == "__main__":
    main()
