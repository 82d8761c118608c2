"""Rollouts in steps under load: real routers, the real Prometheus, and simulated engines of which one is slower."""

import asyncio
import re
from collections.abc import Callable
from typing import Any

from dev.cluster.kube import Kube, Object, condition, is_true
from slipstream_runtime.evaluate import load, records, traffic
from tests.support import services

NAME = "careful"
SOON = 120.0
"""Seconds: the effect of requests that depend on each other is known after six rounds of queries."""
STEPS = {"steps": ["50%"], "pause": "2s"}
STEP = 0.01
"""Seconds of a step of an engine."""


def test_a_slower_revision_goes_back_and_an_equal_one_gets_all_requests(
    kube: Kube, namespace: str
) -> None:
    def write(*, latency: bool, **simulator: Any) -> None:
        kube.apply(
            services.simulated(
                namespace,
                NAME,
                fake=False,
                routing={"mode": "Router"},
                rollout={**STEPS, "analysis": {"slo": latency}},
                simulator={"coldStart": "1s", "alpha": f"{STEP * 1000:.0f}ms", **simulator},
            )
        )

    def until(holds: Callable[[Object], Any]) -> Object:
        found: Object = kube.until(
            "InferenceService",
            namespace,
            lambda items: holds(items[0]) and items[0],
            name=NAME,
            timeout=SOON,
        )
        return found

    def change() -> None:
        write(latency=True, alpha=f"{STEP * 1200:.0f}ms")
        until(lambda found: is_true(found, "Stalled"))
        slower = kube.get("InferenceService", namespace, NAME)
        assert slower is not None
        assert condition(slower, "Stalled")["reason"] == "RolledBack"
        assert is_true(slower, "Ready")
        stable, canary = slower["status"]["revisions"]
        assert (stable["weight"], canary["weight"], canary["verdict"]) == (100, 0, "Worse")
        assert re.search(r"(tpot|e2e)(-p95)? \+", canary["message"])
        # NB: on two busy cores, the proof of equal latencies takes minutes.
        write(latency=False, maxSequences=255)
        until(lambda found: "revisions" in found["status"] and not is_true(found, "Stalled"))
        promoted = until(lambda found: "revisions" not in found["status"])
        assert is_true(promoted, "Ready")
        (left,) = kube.find("Deployment", namespace, labelSelector=f"slipstream.dev/service={NAME}")
        assert left["metadata"]["name"] not in (stable["name"], canary["name"])

    write(latency=True)
    services.ready(kube, namespace, NAME, timeout=SOON)
    service = kube.get("Service", namespace, NAME)
    assert service is not None
    plan = traffic.Plan(
        url=f"http://{service['spec']['clusterIP']}",
        model=NAME,
        concurrency=16,
        duration=3600,  # until it is stopped
        max_tokens=16,
        ignore_eos=True,
    )

    async def drive() -> records.Summary:
        stop = asyncio.Event()
        driving = asyncio.create_task(load.run(plan, stop=stop))
        try:
            await asyncio.to_thread(change)
        finally:
            stop.set()
        return (await driving).summary

    assert asyncio.run(drive()).errors == {}
