"""Two router pods on a real node spend one budget: a request gets more tokens than one of them may hold."""

import httpx

from dev import waiting
from dev.cluster.kube import Kube, condition
from tests.support import services

KEY = "sk-of-team-a"
DIGEST = "c559cad0d80e3a05075c23031571d7a6531baccc370b9833a36da162e050fb63"
BUDGET = 2_000


def test_a_request_for_more_than_half_of_the_budget_is_paid_by_two_routers(
    kube: Kube, namespace: str
) -> None:
    kube.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "keys", "namespace": namespace},
            "stringData": {
                "team-a": f"sha256: {DIGEST}\ntokensPerMinute: {BUDGET}\n",
                "team-b": "sha256: 1234\n",
            },
        }
    )
    kube.apply(
        services.simulated(
            namespace,
            "shared",
            fake=False,
            routing={"mode": "Router", "apiKeys": {"name": "keys"}},
            simulator={"alpha": "1ms", "coldStart": "1s"},
        )
    )
    services.ready(kube, namespace, "shared", timeout=120)
    service = kube.get("Service", namespace, "shared")
    deployment = kube.get("Deployment", namespace, "slipstream-router")
    assert service is not None
    assert deployment is not None
    assert deployment["spec"]["replicas"] == 2
    body = {"model": "shared", "prompt": "hello", "max_tokens": BUDGET * 11 // 20}
    url = f"http://{service['spec']['clusterIP']}/v1/completions"

    def paid() -> bool:
        answer = httpx.post(url, json=body, headers={"x-api-key": KEY}, timeout=60)
        assert answer.status_code in (200, 429), answer.text
        return answer.status_code == 200

    # NB: routers that start beside each other have earned more than half of the budget after half a minute.
    waiting.until(paid, seconds=120, what="a request of both routers' tokens", interval=1.0)
    found = kube.until(
        "InferenceService",
        namespace,
        lambda items: condition(items[0], "KeysRefused").get("status") == "True" and items[0],
        name="shared",
        timeout=60,
        what="the entry that is no key in the status",
    )
    assert "1 entry without a valid key: team-b." in condition(found, "KeysRefused")["message"]
