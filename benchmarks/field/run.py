"""`make bench-field`: three reports from the field, on the real cluster, before and after their fixes."""

import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import click
from rich.console import Console

from benchmarks import report
from benchmarks.field import evictions, neighbors, scrapes, sides
from dev import paths
from dev.cluster import install
from dev.cluster.kube import Kube
from dev.cluster.lifecycle import Cluster
from tests.support import clusters

FOLDER = Path(__file__).parent
CLUSTER = "bench-field"

MEANINGS = {
    "f1_status_replicas": "status.replicas of 2 ready replicas after 2 evictions",
    "f1_recreate_s": "seconds of a rollout by Recreate after 2 evictions, at most 60",
    "f1_scaled_replicas": "most ready replicas (of 2 to 4) in 75 s of a load for 4, after 2 evictions",
    "f1_scaled_s": "seconds of this load until a third replica was ready",
    "f1_limited": "limit of scaling in the status at the end of this load",
    "f6_stream": "stream of a neighbor of 20 changes (services, routes, API keys)",
    "f6_stream_s": "seconds until it was cut",
    "f6_routers_replaced": "whether a change replaced a pod of the router",
    "f8_in_flight_once": "requests in flight of 12 clients that the operator sees with one scrape job",
    "f8_in_flight_twice": "the same with two scrape jobs",
    "f8_replicas_once": "most replicas asked for with one scrape job",
    "f8_replicas_twice": "the same with two scrape jobs",
}
Figures = Mapping[str, float | str]
SCENARIOS: Mapping[str, Callable[[Kube, str], Figures]] = {
    "recreate": evictions.recreate,
    "scale": evictions.scale,
    "neighbors": neighbors.run,
    "scrapes": scrapes.run,
}


@click.command()
@click.option(
    "--side",
    type=click.Choice(["before", "after"]),
    help="Measure this side alone, without writing RESULTS.md.",
)
def main(*, side: str | None) -> None:
    """Measure the operator of the commit before the fixes, then that of the working tree."""
    console = Console(stderr=True)
    found: dict[str, Figures] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in ("before", "after"):
            if side in (None, name):
                tree = sides.checkout(Path(folder)) if name == "before" else paths.REPOSITORY
                found[name] = _measured(tree)
                console.print(name, found[name], highlight=False)
    report.publish(
        folder=FOLDER,
        title="Reports from the field, before and after",
        command="make bench-field",
        figures={f"{key}_{name}": found[name][key] for key in MEANINGS for name in found},
        meanings={
            f"{key}_{name}": f"{MEANINGS[key]}: {name}" for key in MEANINGS for name in found
        },
        details=_table(found),
        kept=side is None,
    )


def _measured(tree: Path) -> Figures:
    """Boot a cluster with the operator of this tree, and run all scenarios."""
    cluster = Cluster(name=CLUSTER)
    cluster.down()
    cluster.up()
    try:
        with Kube(cluster.kubeconfig, cluster.kubectl) as kube:
            sides.scrape_twice(kube)
            install.install(cluster, tree=tree)
            # All scenarios mostly wait, and none measures a time that another could lengthen much.
            with ThreadPoolExecutor() as pool, ExitStack() as stack:
                running = [
                    pool.submit(run, kube, stack.enter_context(clusters.namespace(kube, name)))
                    for name, run in SCENARIOS.items()
                ]
                figures = {name: value for one in running for name, value in one.result().items()}
    finally:
        cluster.down()
    return figures


def _table(found: Mapping[str, Figures]) -> str:
    """Return a table in Markdown with one column for each side."""
    rows = [f"| | {' | '.join(found)} |", f"|---|{'---|' * len(found)}"]
    for key, meaning in MEANINGS.items():
        values = (str(figures[key]) for figures in found.values())
        rows.append(f"| {meaning} | {' | '.join(values)} |")
    head = f"Before: commit {sides.BEFORE[:8]}, the last one without any of these fixes. After: the working tree."
    return "\n".join([head, "", *rows, ""])


if __name__ == "__main__":
    main()
