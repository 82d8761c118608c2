"""Nothing is lost, whatever changes, and at zero replicas the first request is held and answered."""

import random

import httpx
import pytest

from dev.cluster.kube import Kube
from dev.cluster.lifecycle import Cluster
from tests.support import disturbances, services
from tests.support.disturbances import Disturbance, Site

ROUNDS = 2


@pytest.mark.parametrize("disturbance", disturbances.ALL, ids=lambda each: each.name)
def test_no_request_is_lost(
    cluster: Cluster, kube: Kube, namespace: str, disturbance: Disturbance
) -> None:
    site = Site(cluster, kube, namespace)
    rounds = disturbance.rounds(ROUNDS)
    trial = disturbances.run(site, disturbance, rounds=rounds, dice=random.Random(0))
    assert trial.clean, trial
    assert trial.requests > disturbances.BETWEEN * rounds


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
    service = kube.get("Service", namespace, "quiet")
    assert service is not None
    url = f"http://{service['spec']['clusterIP']}"
    body = {"model": "quiet", "prompt": "hello", "max_tokens": 4}
    answer = httpx.post(f"{url}/v1/completions", json=body, timeout=120)
    assert answer.status_code == 200
    assert answer.json()["choices"]
