"""`make bench-operator`: how fast the operator converges, what it costs, and where the time to Ready goes."""

import asyncio
import time
from pathlib import Path

import httpx
import yaml

from benchmarks import report
from dev import metrics
from dev.cluster import install
from dev.cluster.kube import Kube, Object, is_true
from dev.cluster.lifecycle import Cluster
from dev.models import heldout
from slipstream_runtime import contract
from slipstream_runtime.evaluate import load, traffic
from tests.support import services

FOLDER = Path(__file__).parent
SAMPLE = Path("manifests/samples/chat.yaml")
SYSTEM = "slipstream-system"
COUNT = 200

MEANINGS = {
    "converge_200_s": "200 services applied one after the other: first apply to last Ready",
    "reconcile_p50_ms": "median duration of one reconcile, applies included",
    "rss_mb_1": "resident memory of the leading operator with 1 service",
    "rss_mb_200": "resident memory of the leading operator with 201 services",
    "apply_to_ready_s": "manifests/samples/chat.yaml: apply to Ready with the real vLLM",
    "boot_s": "local cluster: from nothing to a Ready node with DNS and Prometheus",
    "draft_acceptance": "share of the draft's tokens that the target accepted, by vLLM's counters",
}


def main() -> None:
    """Measure on a cluster of its own."""
    cluster = Cluster(name="bench")
    cluster.down()
    started = time.monotonic()
    cluster.up(nodes=4)
    boot = time.monotonic() - started
    try:
        install.install(cluster)
        with Kube(cluster.kubeconfig, cluster.kubectl) as kube:
            figures = _measure(kube)
    finally:
        cluster.down()
    figures["boot_s"] = round(boot, 1)
    report.publish(
        folder=FOLDER,
        title="The operator and its local cluster",
        command="make bench-operator",
        figures={name: figures[name] for name in MEANINGS},
        meanings=MEANINGS,
    )


def _measure(kube: Kube) -> dict[str, float | None]:
    for name in ("one", "many", "real"):
        kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    figures: dict[str, float | None] = {}
    figures["apply_to_ready_s"] = round(_time_to_ready(kube), 1)
    figures["draft_acceptance"] = _acceptance(kube)
    kube.delete("InferenceService", "real", "chat")
    kube.until("Pod", "real", lambda items: not items, timeout=120)
    kube.apply(services.simulated("one", "chat"))
    _until_ready(kube, "one", 1)
    figures["rss_mb_1"] = _megabytes(kube)
    started = time.monotonic()
    for index in range(COUNT):
        kube.apply(services.simulated("many", f"chat-{index}"))
    _until_ready(kube, "many", COUNT)
    figures["converge_200_s"] = round(time.monotonic() - started, 1)
    figures["rss_mb_200"] = _megabytes(kube)
    figures["reconcile_p50_ms"] = _median(kube)
    return figures


def _time_to_ready(kube: Kube) -> float:
    manifest = yaml.safe_load(SAMPLE.read_text())
    manifest["metadata"]["namespace"] = "real"
    started = time.monotonic()
    kube.apply(manifest)
    _until_ready(kube, "real", 1, timeout=300)
    return time.monotonic() - started


def _until_ready(kube: Kube, namespace: str, count: int, *, timeout: float = 120) -> None:
    kube.until(
        "InferenceService",
        namespace,
        lambda items: len(items) == count and all(is_true(item, "Ready") for item in items),
        timeout=timeout,
    )


def _acceptance(kube: Kube) -> float | None:
    service = kube.get("Service", "real", "chat")
    assert service is not None
    url = f"http://{service['spec']['clusterIP']}"
    prompts = tuple(
        {"messages": [{"role": "user", "content": item["prompt"]}], "temperature": 0}
        for item in heldout.read()
    )
    plan = traffic.Plan(url=url, model="chat", concurrency=4, duration=20, prompts=prompts)
    asyncio.run(load.run(plan))
    pages = [
        _page(pod["status"]["podIP"], contract.MANAGEMENT_PORT)
        for pod in kube.find("Pod", "real")
        if is_true(pod, "Ready")
    ]
    drafted, accepted = (
        sum(metrics.total(page, name) for page in pages)
        for name in (contract.DRAFT_TOKENS, contract.ACCEPTED_TOKENS)
    )
    return round(accepted / drafted, 3) if drafted else None


def _leader(kube: Kube) -> Object:
    lease = kube.get("Lease", SYSTEM, "slipstream-operator")
    assert lease is not None
    pod = kube.get("Pod", SYSTEM, lease["spec"]["holderIdentity"])
    assert pod is not None
    return pod


def _megabytes(kube: Kube) -> float:
    page = _page(_leader(kube)["status"]["podIP"], 8080)
    return round(metrics.totals(page)["process_resident_memory_bytes"] / 2**20, 1)


def _median(kube: Kube) -> float | None:
    """Interpolated in the histogram's buckets, as PromQL does."""
    page = _page(_leader(kube)["status"]["podIP"], 8080)
    samples = metrics.samples(page, "slipstream_reconcile_duration_seconds_bucket")
    buckets = [(float(sample.labels["le"]), sample.value) for sample in samples]
    half = buckets[-1][1] / 2
    low, below = 0.0, 0.0
    for bound, count in buckets:
        if count >= half:
            return round(1000 * (low + (bound - low) * (half - below) / (count - below)), 2)
        low, below = bound, count
    return None


def _page(address: str, port: int) -> str:
    return httpx.get(f"http://{address}:{port}{contract.METRICS_PATH}").text


if __name__ == "__main__":
    main()
