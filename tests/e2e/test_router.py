"""Behind the router nothing is lost, whatever changes, and at zero replicas the first request is held."""

import asyncio
from collections.abc import Callable

import httpx
import pytest

from dev.kube import Kube, Object
from slipstream_runtime.evaluate import load, traffic
from tests import services

pytestmark = pytest.mark.timeout(300)

ROUTED = {"routing": {"mode": "Router"}}
ENGINE = {"alpha": "10ms", "maxSequences": 8, "coldStart": "2s"}
BEFORE = 20
"""Answers before the change begins."""
Change = Callable[[Kube, str], None]


def routed(namespace: str, **spec: object) -> Object:
    return services.simulated(
        namespace, "chat", fake=False, **{**ROUTED, "simulator": ENGINE, **spec}
    )


def address(kube: Kube, namespace: str, name: str) -> str:
    service = kube.get("Service", namespace, name)
    assert service is not None
    return f"http://{service['spec']['clusterIP']}"


def settled(kube: Kube, namespace: str, replicas: int) -> None:
    """Wait until one revision alone serves with so many engines."""
    kube.until(
        "InferenceService",
        namespace,
        lambda items: (
            items[0]["status"].get("readyReplicas") == replicas
            and items[0]["status"].get("observedGeneration") == items[0]["metadata"]["generation"]
        ),
        name="chat",
        timeout=90,
        what=f"{replicas} engines",
    )
    kube.until(
        "Deployment",
        namespace,
        lambda items: sum(item["metadata"]["name"].startswith("chat-") for item in items) == 1,
        timeout=120,
        what="one revision",
    )


def update(kube: Kube, namespace: str) -> None:
    kube.apply(routed(namespace, replicas=2, simulator={**ENGINE, "alpha": "12ms"}))
    settled(kube, namespace, 2)


def scale(kube: Kube, namespace: str) -> None:
    for replicas in (4, 1):
        kube.apply(routed(namespace, replicas=replicas))
        settled(kube, namespace, replicas)


def lose_an_engine(kube: Kube, namespace: str) -> None:
    engines = [
        pod for pod in kube.find("Pod", namespace) if "-router-" not in pod["metadata"]["name"]
    ]
    kube.delete("Pod", namespace, engines[0]["metadata"]["name"])
    gone = engines[0]["metadata"]["uid"]
    kube.until(
        "Pod",
        namespace,
        lambda items: all(item["metadata"]["uid"] != gone for item in items),
        timeout=90,
        what="the end of the engine",
    )
    settled(kube, namespace, 2)


def roll_the_router(kube: Kube, namespace: str) -> None:
    routers = [pod for pod in kube.find("Pod", namespace) if "-router-" in pod["metadata"]["name"]]
    before = {pod["metadata"]["uid"] for pod in routers}
    for pod in routers:
        kube.delete("Pod", namespace, pod["metadata"]["name"])
    kube.until(
        "Pod",
        namespace,
        lambda items: before.isdisjoint(item["metadata"]["uid"] for item in items),
        timeout=120,
        what="new routers",
    )


@pytest.mark.parametrize("change", [update, scale, lose_an_engine, roll_the_router])
def test_no_request_is_lost_while(kube: Kube, namespace: str, change: Change) -> None:
    kube.apply(routed(namespace, replicas=2))
    services.ready(kube, namespace, "chat", timeout=90)
    plan = traffic.Plan(
        url=address(kube, namespace, "chat"),
        model="chat",
        concurrency=6,
        duration=250,
        max_tokens=48,
        connect_retries=0,
    )

    async def drive() -> None:
        """Load from before the change to after it."""
        enough, stop = asyncio.Event(), asyncio.Event()

        def progress(_: int, finished: int) -> None:
            if finished >= BEFORE:
                enough.set()

        running = asyncio.create_task(load.run(plan, progress=progress, stop=stop))
        await enough.wait()
        await asyncio.to_thread(change, kube, namespace)
        stop.set()
        report = await running
        assert report.summary.requests > BEFORE
        assert dict(report.summary.errors) == {}

    asyncio.run(drive())


def test_at_zero_replicas_the_first_request_is_held_and_answered(
    kube: Kube, namespace: str
) -> None:
    kube.apply(
        {
            "apiVersion": "slipstream.dev/v1alpha1",
            "kind": "InferenceService",
            "metadata": {"name": "quiet", "namespace": namespace},
            "spec": {
                "model": {"uri": "file:///models/target"},
                "accelerator": {"type": "cpu"},
                "scaling": {"minReplicas": 0, "idleAfter": "10s", "maxReplicas": 2},
            },
        }
    )
    services.ready(kube, namespace, "quiet", timeout=120)
    kube.until(
        "InferenceService",
        namespace,
        lambda items: items[0]["status"].get("replicas") == 0,
        name="quiet",
        timeout=120,
        what="zero replicas",
    )
    url = address(kube, namespace, "quiet")
    body = {"model": "quiet", "prompt": "hello", "max_tokens": 4}
    answer = httpx.post(f"{url}/v1/completions", json=body, timeout=120)
    assert answer.status_code == 200
    assert answer.json()["choices"]
