"""A replica of two pods: the real LeaderWorkerSet, and vLLM's ranks in both pods, connected over the network."""

from typing import Any

import httpx
import pytest

from dev.cluster import leaderworkerset
from dev.cluster.kube import Kube, Object, condition
from dev.cluster.lifecycle import Cluster
from slipstream_operator import names
from tests.support import services

START, SOON = 240.0, 60.0
NAME = "large"


@pytest.fixture(scope="module", autouse=True)
def controller(kube: Kube, cluster: Cluster) -> None:
    """LeaderWorkerSet, installed while the operator runs."""
    leaderworkerset.install(cluster, report=lambda *_: None)


def spread(namespace: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "slipstream.dev/v1alpha1",
        "kind": "InferenceService",
        "metadata": {"name": NAME, "namespace": namespace},
        "spec": {
            "model": {"uri": "file:///models/target"},
            "accelerator": {"type": "cpu"},
            "parallelism": {"tensor": 2, "nodes": 2},
            **spec,
        },
    }


def members(kube: Kube, namespace: str, label: str) -> list[Object]:
    return kube.find("Pod", namespace, labelSelector=f"{label}={NAME}")


def answer(kube: Kube, namespace: str) -> str:
    service = kube.get("Service", namespace, NAME)
    assert service is not None
    url = f"http://{service['spec']['clusterIP']}/v1/completions"
    body = {"model": NAME, "prompt": "Count to five: one two", "max_tokens": 8, "temperature": 0}
    found = httpx.post(url, json=body, timeout=60).raise_for_status().json()
    assert "tp2" in found["system_fingerprint"]
    text: str = found["choices"][0]["text"]
    return text


def test_two_pods_serve_as_one_replica_and_restart_together_when_a_worker_is_killed(
    kube: Kube, cluster: Cluster, namespace: str
) -> None:
    kube.apply(spread(namespace))
    ready = services.ready(kube, namespace, NAME, timeout=START)
    assert (ready["status"]["replicas"], ready["status"]["readyReplicas"]) == (1, 1)
    (leader,) = members(kube, namespace, names.SERVICE_LABEL)
    (worker,) = members(kube, namespace, names.WORKER_LABEL)
    text = answer(kube, namespace)

    cluster.kill_container(_container(worker))
    kube.until(
        "Event",
        namespace,
        lambda items: any(
            item["reason"] == "GroupRestarted" and worker["metadata"]["name"] in item["note"]
            for item in items
        ),
        timeout=SOON,
        what="the Event that names the worker",
    )
    kube.until(
        "InferenceService",
        namespace,
        lambda items: worker["metadata"]["name"] in condition(items[0], "Available")["message"],
        name=NAME,
        timeout=SOON,
        what="the worker as the reason",
    )
    services.ready(kube, namespace, NAME, timeout=START)
    before = {leader["metadata"]["uid"], worker["metadata"]["uid"]}
    now = {
        pod["metadata"]["uid"]
        for label in (names.SERVICE_LABEL, names.WORKER_LABEL)
        for pod in members(kube, namespace, label)
    }
    assert len(now) == 2
    assert not before & now
    assert answer(kube, namespace) == text

    kube.apply(spread(namespace, replicas=0))
    kube.until(
        "Pod",
        namespace,
        lambda items: not [pod for pod in items if names.WORKER_LABEL in pod["metadata"]["labels"]],
        timeout=SOON,
        what="the end of the workers",
    )
    assert not members(kube, namespace, names.SERVICE_LABEL)


def _container(pod: Object) -> str:
    (status,) = pod["status"]["containerStatuses"]
    identity: str = status["containerID"].removeprefix("containerd://")
    return identity
