"""Scaling to four replicas on two cores: real pods, the real Prometheus, simulated engines."""

import asyncio

import pytest

from dev.kube import Kube, is_true
from slipstream_runtime.evaluate import load, traffic
from tests import services

pytestmark = pytest.mark.timeout(300)


def test_a_simulated_service_follows_load_to_its_maximum_and_back(
    kube: Kube, namespace: str
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

    def replicas(count: int, timeout: float) -> None:
        kube.until(
            "InferenceService",
            namespace,
            lambda items: items[0].get("status", {}).get("readyReplicas") == count,
            name="simulated",
            timeout=timeout,
        )

    kube.until(
        "InferenceService",
        namespace,
        lambda items: is_true(items[0], "Ready"),
        name="simulated",
        timeout=60,
    )
    service = kube.get("Service", namespace, "simulated")
    assert service is not None

    async def drive() -> None:
        plan = traffic.Plan(
            url=f"http://{service['spec']['clusterIP']}",
            model="simulated",
            concurrency=32,
            duration=120,
            max_tokens=64,
        )
        driving = asyncio.create_task(load.run(plan))
        try:
            await asyncio.to_thread(replicas, 4, 110)
        finally:
            driving.cancel()
            await asyncio.gather(driving, return_exceptions=True)

    asyncio.run(drive())
    replicas(1, 150)
