"""`make bench-gateway`: what the way through an inference gateway costs beside the router, and how each picks engines.

One cluster, two services with equal simulated engines: one behind the operator's router, one behind the real Envoy
with the real endpoint picker. All ways are measured in turn, many times: what the machine does meanwhile befalls all.
"""

import asyncio
import contextlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import click
import httpx
import psutil
from rich.console import Console
from rich.progress import Progress

from benchmarks import report
from dev.cluster import cgroups, install
from dev.cluster.kube import Kube, Object
from dev.cluster.lifecycle import Cluster
from slipstream_runtime import contract
from slipstream_runtime.evaluate import load, records, traffic
from tests.support import gateways, services
from tests.support.gateways import Gateway

FOLDER: Final = Path(__file__).parent
NAMESPACE: Final = "bench"
ENGINES: Final = 3
ROUNDS: Final = 8
REQUESTS: Final = 100
"""One after the other, for the latency of one client."""
CLIENTS: Final = 16
SECONDS: Final = 3.0
UNLIKE: Final = 300
EQUAL: Final = 100
READY_SECONDS: Final = 120.0
WAYS: Final = ("direct", "router", "gateway")

MEANINGS: Final = {
    "router_added_p50_ms": "complete answers of one token, 1 client: latency that the router adds, median",
    "gateway_added_p50_ms": "the same for Envoy and its picker",
    "router_added_p99_ms": "the same for the router, 99th percentile",
    "gateway_added_p99_ms": "the same for Envoy and its picker, 99th percentile",
    "router_added_ttft_p50_ms": f"TTFT p50 of {CLIENTS} clients minus that through a Service (random engine)",
    "gateway_added_ttft_p50_ms": "the same for Envoy and its picker",
    "router_cpu_us": "processor time of a request in the router",
    "gateway_cpu_us": "processor time of a request in Envoy and the picker, including reading metrics",
    "router_mb": "memory of one of the two router pods",
    "gateway_mb": "memory of Envoy and of the picker",
    "gateway_least_share": f"{UNLIKE} different prompts over {ENGINES} engines: share of the engine with the fewest",
    "gateway_most_equal_share": f"{EQUAL} equal prompts: share of the engine with the most",
}


@dataclass(frozen=True)
class Way:
    """A way to an engine: where requests go, and how the processes between them are read."""

    url: str
    model: str
    cpu: Callable[[], float] = lambda: 0.0
    """Processor seconds so far of what lies between."""
    spread: str | None = None
    """URL for many clients: one engine alone would be a queue."""


@dataclass
class Samples:
    """Results of the rounds on one path, in ms; CPU in us per request."""

    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    ttft: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)


@click.command()
@click.option("--rounds", default=ROUNDS, show_default=True, help="Times that each is measured.")
@click.option("--quick", is_flag=True, help="Two rounds, without writing RESULTS.md.")
def main(*, rounds: int, quick: bool) -> None:
    """Measure on a cluster of its own."""
    cluster = Cluster(name="bench-gateway")
    cluster.down()
    cluster.up()
    try:
        install.install(cluster)
        with Kube(cluster.kubeconfig, cluster.kubectl) as kube, gateways.kinds(kube):
            figures, details = _measure(kube, cluster, rounds=2 if quick else rounds)
    finally:
        cluster.down()
    report.publish(
        folder=FOLDER,
        title="An inference gateway compared with the router",
        command="make bench-gateway",
        figures=figures,
        meanings=MEANINGS,
        details=details,
        kept=not quick,
    )


def _measure(
    kube: Kube, cluster: Cluster, *, rounds: int
) -> tuple[Mapping[str, float | str | None], str]:
    with tempfile.TemporaryDirectory() as home, _served(kube, cluster, Path(home)) as gateway:
        router = _processes(kube, cluster, "app.kubernetes.io/component=router")
        picker = _processes(kube, cluster, "app.kubernetes.io/component=picker")
        between = [*picker, psutil.Process(gateway.envoy.process.pid)]
        ways = {
            "direct": Way(
                f"http://{next(iter(gateway.pods.values()))}:{contract.API_PORT}", "chat"
            ),
            "router": Way(f"http://{_address(kube, 'routed')}", "routed", lambda: _cpu(router)),
            "gateway": Way(
                str(gateway.http.base_url).removesuffix("/v1/"), "chat", lambda: _cpu(between)
            ),
        }
        samples = {name: Samples() for name in WAYS}
        with Progress(console=Console(stderr=True)) as progress:
            task = progress.add_task("measuring in turn", total=rounds)
            for number in range(rounds):
                for way in (*WAYS[number % 3 :], *WAYS[: number % 3]):
                    _round(ways[way], samples[way])
                progress.advance(task)
        spread = gateway.shares(gateways.unlike(UNLIKE), clients=CLIENTS)
        equal = gateway.shares(gateways.unlike(1) * EQUAL, clients=1)
        memory = {
            "router_mb": _mb(router) / 2,
            "gateway_mb": _mb(between),
        }
    return _figures(samples, memory, spread=spread, equal=equal), _details(samples)


@contextlib.contextmanager
def _served(kube: Kube, cluster: Cluster, home: Path) -> Iterator[Gateway]:
    """Both services, ready, and Envoy before the second."""
    picker = {"images": {"picker": gateways.picker_image(cluster)}}
    kube.patch("ServingProfile", None, "local", {"spec": picker})
    kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    gateways.programmed(kube, NAMESPACE)
    behind = {"mode": "Gateway", "gateway": {"name": "inference"}}
    for name, routing in (("routed", {"mode": "Router"}), ("chat", behind)):
        kube.apply(_service(name, routing))
    for kind in ("InferencePool", "HTTPRoute"):
        gateways.answer(kube, NAMESPACE, kind, **gateways.ACCEPTED)
    for name in ("routed", "chat"):
        services.ready(kube, NAMESPACE, name, timeout=READY_SECONDS)
    with gateways.attached(kube, NAMESPACE, home) as gateway:
        yield gateway


def _service(name: str, routing: Object) -> Object:
    simulator = {"alpha": "5ms", "coldStart": "1s"}
    return services.simulated(
        NAMESPACE, name, fake=False, routing=routing, simulator=simulator, replicas=ENGINES
    )


def _round(way: Way, samples: Samples) -> None:
    """One client's latency, then many clients' time to first token."""
    body = {"model": way.model, "max_tokens": 1}
    taken = []
    before = way.cpu()
    with httpx.Client(base_url=way.url, timeout=30, trust_env=False) as client:
        for prompt in gateways.unlike(REQUESTS):
            began = time.perf_counter()
            client.post("/v1/completions", json={**body, "prompt": prompt}).raise_for_status()
            taken.append(1e3 * (time.perf_counter() - began))
    taken.sort()
    samples.p50.append(records.quantile(taken, 0.5))
    samples.p99.append(records.quantile(taken, 0.99))
    plan = traffic.Plan(
        url=way.spread or way.url,
        model=way.model,
        duration=SECONDS,
        concurrency=CLIENTS,
        max_tokens=20,
    )
    found = asyncio.run(load.run(plan)).summary
    if found.failed or found.ttft.p50 is None:
        raise RuntimeError(f"requests failed: {found.errors}")
    samples.ttft.append(1e3 * found.ttft.p50)
    samples.cpu.append(1e6 * (way.cpu() - before) / (REQUESTS + found.requests))


def _address(kube: Kube, name: str) -> str:
    service = kube.get("Service", NAMESPACE, name)
    assert service is not None
    address: str = service["spec"]["clusterIP"]
    return address


def _processes(kube: Kube, cluster: Cluster, labels: str) -> list[psutil.Process]:
    """Return the processes of the pods with these labels."""
    found = []
    for pod in kube.find("Pod", NAMESPACE, labelSelector=labels):
        for status in pod["status"]["containerStatuses"]:
            container = status["containerID"].removeprefix("containerd://")
            found += cgroups.processes(f"slipstream-{cluster.name}", container=container)
    assert found, labels
    return [psutil.Process(pid) for pid in found]


def _cpu(processes: Sequence[psutil.Process]) -> float:
    """Processor seconds that they have used so far."""
    return sum(sum(one.cpu_times()[:2]) for one in processes)


def _mb(processes: Sequence[psutil.Process]) -> float:
    """Resident memory in MiB."""
    return sum(one.memory_info().rss for one in processes) / 2**20


def _figures(
    samples: Mapping[str, Samples],
    memory: Mapping[str, float],
    *,
    spread: Mapping[str, int],
    equal: Mapping[str, int],
) -> dict[str, float | str | None]:
    found = dict(memory)
    for way in ("router", "gateway"):
        for name, suffix in (("p50", "p50_ms"), ("p99", "p99_ms"), ("ttft", "ttft_p50_ms")):
            pairs = zip(getattr(samples[way], name), getattr(samples["direct"], name), strict=True)
            found[f"{way}_added_{suffix}"] = statistics.median(one - plain for one, plain in pairs)
        found[f"{way}_cpu_us"] = statistics.median(samples[way].cpu)
    found["gateway_least_share"] = min(spread.values()) / UNLIKE
    found["gateway_most_equal_share"] = max(equal.values()) / EQUAL
    return {name: float(f"{found[name]:.3g}") for name in MEANINGS}


def _details(samples: Mapping[str, Samples]) -> str:
    lines = ["| way | p50, ms | p99, ms | TTFT p50, ms | rounds of p50 from .. to |"]
    lines += ["|---|---:|---:|---:|---|"]
    for way, found in samples.items():
        values = (found.p50, found.p99, found.ttft)
        cells = " | ".join(f"{statistics.median(each):.2f}" for each in values)
        lines.append(f"| {way} | {cells} | {min(found.p50):.2f} .. {max(found.p50):.2f} |")
    return "\n".join([*lines, "", _BASIS]) + "\n"


_BASIS: Final = (
    f"Values are medians over rounds in which all ways are measured in turn. Each service has {ENGINES} simulated "
    "engines (5 ms a step). Prompts of 4,000 characters share nothing. The router has two pods.\n\n"
    "The gateway is Envoy (one thread, on the host) with ext_proc in FULL_DUPLEX_STREAMED mode. The inference "
    "extension's picker runs as a pod with the options that the operator sets. Engines, clients and everything "
    "between them share the cores. Direct is one engine for one client, and the Service for many clients."
)


if __name__ == "__main__":
    main()
