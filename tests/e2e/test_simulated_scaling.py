"""Scaling to four replicas on two cores: real pods, the real Prometheus, simulated engines.

Beside them, a pod of another team exports a page of which no number makes sense. It must change nothing.
"""

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from click.testing import CliRunner

from dev.cluster.kube import Kube, Object
from slipstream_cli.main import main
from slipstream_runtime.evaluate import load, traffic
from tests.support import clusters, faults, hostile, services

PODS = "slipstream.dev/service=simulated"
DOWN_WINDOW = 20.0
"""Seconds after which the local profile lets a service shrink."""


@pytest.fixture
def hostile_team(kube: Kube) -> Iterator[str]:
    """Return a namespace with a service, and with a pod that exports an odd page in its name."""
    with clusters.namespace(kube, "hostile") as name:
        kube.apply(services.simulated(name, "evil", fake=False, simulator={"coldStart": "1s"}))
        kube.apply(hostile.pod(kube, name, "evil"))
        hostile.scraped(kube, name)
        yield name


def why(kube: Kube, namespace: str, *words: str) -> Any:
    """Return the report of `slipstream why`, which reads the routers and engines through the real API server."""
    options = ["why", "simulated", "-n", namespace, "--kubeconfig", str(kube.kubeconfig)]
    found = CliRunner().invoke(main, [*options, *words, "-o", "json"])
    assert found.exit_code == 0, found.output
    return json.loads(found.stdout)


def test_a_service_follows_load_up_and_down_and_keeps_its_pods_through_restart_and_outage(
    kube: Kube, namespace: str, hostile_team: str
) -> None:
    kube.apply(
        services.simulated(
            namespace,
            "simulated",
            fake=False,
            # NB: past the router, a client's kept connections would all stay with the first replica.
            routing={"mode": "Router"},
            simulator={"alpha": "20ms", "maxSequences": 8, "coldStart": "3s"},
            slo={"ttft": {"p95": "500ms"}},
            scaling={"minReplicas": 1, "maxReplicas": 4},
        )
    )

    def status(holds: Callable[[Object], bool], timeout: float) -> None:
        kube.until(
            "InferenceService",
            namespace,
            lambda items: holds(items[0].get("status", {})),
            name="simulated",
            timeout=timeout,
        )

    def replicas(count: int, timeout: float) -> None:
        status(lambda found: found.get("readyReplicas") == count, timeout)

    def pods() -> set[str]:
        return {
            pod["metadata"]["uid"]
            for pod in kube.find("Pod", namespace, labelSelector=PODS)
            if "deletionTimestamp" not in pod["metadata"]
        }

    services.ready(kube, namespace, "simulated", timeout=60)
    service = kube.get("Service", namespace, "simulated")
    assert service is not None
    plan = traffic.Plan(
        url=f"http://{service['spec']['clusterIP']}",
        model="simulated",
        concurrency=32,
        duration=3600,  # until it is cancelled
        max_tokens=64,
    )

    def keep_the_peak() -> set[str]:
        replicas(4, 110)
        peak = pods()
        faults.restart_operator(kube)
        assert pods() == peak
        return peak

    def go_blind() -> None:
        status(lambda found: found["scaling"]["reason"].startswith("Holding 4 replicas: "), 60)

    def keeps_its_pods(seconds: float) -> None:
        kube.never(
            "InferenceService",
            namespace,
            lambda items: items[0]["status"]["scaling"]["desired"] < 4,
            seconds=seconds,
            name="simulated",
        )

    async def drive() -> None:
        driving = asyncio.create_task(load.run(plan))
        try:
            peak = await asyncio.to_thread(keep_the_peak)
            with faults.without_prometheus(kube):
                await asyncio.to_thread(go_blind)
                driving.cancel()
                # NB: no request comes any more, and without metrics the operator can't know.
                await asyncio.to_thread(keeps_its_pods, 1.5 * DOWN_WINDOW)
            assert pods() == peak
        finally:
            driving.cancel()
            await asyncio.gather(driving, return_exceptions=True)

    asyncio.run(drive())
    for words in (("--what-if", "replicas=4"), ("--port-forward",)):
        found = why(kube, namespace, *words)
        assert found["requests"]["answered"] > 100
        assert found["causes"]["e2e"]["byCause"]["queue"] > 0.1, "32 clients, and 8 slots at first"
        assert found["objectives"][0]["objective"] == "ttft-p95"
        if replayed := found.get("whatIf"):
            assert replayed["changes"] == {"replicas": 4}
            assert replayed["stepTimes"]["alpha"] > 0.005
    replicas(1, 200)
    hostile.scraped(kube, hostile_team)
    for counter in ("slipstream_scaling_tick_failures_total", "slipstream_decision_failures_total"):
        assert hostile.value(kube, f"sum({counter})") == 0
    assert services.ready(kube, hostile_team, "evil")["status"]["scaling"]["desired"] == 1
