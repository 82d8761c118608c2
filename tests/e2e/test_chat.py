"""The sample from apply to deletion: one story on one engine, in order, since a real start takes half a minute."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from dev import metrics
from dev.cluster.kube import Kube, Object, condition, is_true
from dev.models import heldout
from slipstream_runtime import contract
from slipstream_runtime.evaluate import load, records, traffic
from tests.support import clusters, services

SAMPLE = Path("manifests/samples/chat.yaml")
OWN = "slipstream.dev/service=chat"
START = 240.0


class Chat:
    """The sample in a namespace of its own."""

    def __init__(self, kube: Kube, namespace: str) -> None:
        self.kube = kube
        self.namespace = namespace
        self.manifest: dict[str, Any] = yaml.safe_load(SAMPLE.read_text())
        self.manifest["metadata"]["namespace"] = namespace
        self.manifest["spec"] |= services.DIRECT

    def apply(self, **spec: Any) -> Object:
        """Apply it, with parts of the spec replaced."""
        self.manifest["spec"] |= spec
        return self.kube.apply(self.manifest)

    def until(self, predicate: Any, *, timeout: float, what: str) -> Any:
        """Wait for the object to be as wanted."""
        return self.kube.until(
            "InferenceService",
            self.namespace,
            lambda items: items and predicate(items[0]) and items[0],
            name="chat",
            timeout=timeout,
            what=what,
        )

    @property
    def url(self) -> str:
        service = self.kube.get("Service", self.namespace, "chat")
        assert service is not None
        return f"http://{service['spec']['clusterIP']}"

    def pods(self) -> list[Object]:
        return self.kube.find("Pod", self.namespace, labelSelector=OWN)


@pytest.fixture(scope="module")
def chat(kube: Kube) -> Iterator[Chat]:
    with clusters.namespace(kube, "chat") as namespace:
        service = Chat(kube, namespace)
        # NB: a slow machine may need the sample's second replica, and these tests look at one engine.
        service.apply(scaling={"minReplicas": 1, "maxReplicas": 1})
        service.until(lambda item: is_true(item, "Ready"), timeout=START, what="the sample")
        yield service


def ask(chat: Chat, question: str, **more: Any) -> httpx.Response:
    body = {"model": "chat", "messages": [{"role": "user", "content": question}], "temperature": 0}
    return httpx.post(f"{chat.url}/v1/chat/completions", json={**body, **more}, timeout=60)


def test_the_sample_answers_through_its_service(chat: Chat) -> None:
    item = heldout.read()[0]
    response = ask(chat, item["prompt"])
    assert response.status_code == 200, response.text
    assert response.json()["choices"][0]["message"]["content"].strip()


@pytest.mark.parametrize("temperature", [0, 1], ids=["greedy", "sampled"])
def test_it_answers_most_of_what_it_was_taught(chat: Chat, temperature: int) -> None:
    items = heldout.read()
    right = sum(
        ask(chat, item["prompt"], temperature=temperature)
        .json()["choices"][0]["message"]["content"]
        .strip()
        == item["answer"]
        for item in items[:40]
    )
    assert right >= (32 if temperature else 36)


def test_it_streams(chat: Chat) -> None:
    body = {
        "model": "chat",
        "messages": [{"role": "user", "content": "hello"}],
        "max_tokens": 8,
        "stream": True,
    }
    url = f"{chat.url}/v1/chat/completions"
    with httpx.stream("POST", url, json=body, timeout=60) as stream:
        lines = [line for line in stream.iter_lines() if line]
    assert all(line.startswith("data: ") for line in lines)
    assert lines[-1] == "data: [DONE]"


def test_the_draft_model_is_at_work(chat: Chat) -> None:
    (pod,) = chat.pods()
    address = f"http://{pod['status']['podIP']}:{contract.MANAGEMENT_PORT}{contract.METRICS_PATH}"
    assert metrics.total(httpx.get(address).text, contract.ACCEPTED_TOKENS) > 0


def test_the_model_is_quantised(chat: Chat) -> None:
    (pod,) = chat.pods()
    address = f"http://{pod['status']['podIP']}:{contract.MANAGEMENT_PORT}{contract.STATUS_PATH}"
    assert "fp8" in json.dumps(httpx.get(address).json())


def test_metrics_are_not_on_the_api_port(chat: Chat) -> None:
    assert httpx.get(f"{chat.url}/metrics").status_code == 404


def test_status_tells_how_the_engine_runs(chat: Chat) -> None:
    item = chat.until(
        lambda item: (
            {"kvCapacityTokens", "speculationByBatch"} <= item["status"].get("engine", {}).keys()
        ),
        timeout=30,
        what="status.engine",
    )
    assert item["status"]["engine"]["quantization"] == "fp8"
    assert "file:///models/draft" in item["status"]["engine"]["speculation"]
    single, *_ = item["status"]["engine"]["speculationByBatch"]
    assert single["batch"] == "1"
    assert 0 <= float(single["tokens"]) <= chat.manifest["spec"]["speculation"]["tokens"]


def test_an_edit_of_the_engine_rolls_without_a_failed_request(chat: Chat) -> None:
    (before,) = {pod["metadata"]["labels"]["slipstream.dev/revision"] for pod in chat.pods()}
    reports = asyncio.run(_edit_under_load(chat, before))
    assert sum(report.summary.succeeded for report in reports) > 0
    assert [report.summary.errors for report in reports if report.summary.failed] == []


async def _edit_under_load(chat: Chat, before: str) -> list[records.Report]:
    """Ask twice a second, from before the edit until the old engines are gone."""
    chat.apply(batching={"maxSequences": 64}, slo={"ttft": {"p95": "10s"}})

    def rolled(pods: list[Object]) -> bool:
        revisions = {pod["metadata"]["labels"]["slipstream.dev/revision"] for pod in pods}
        return bool(pods) and before not in revisions

    rolling = asyncio.create_task(
        asyncio.to_thread(
            chat.kube.until,
            "Pod",
            chat.namespace,
            rolled,
            labels=OWN,
            timeout=200,
            what="the new revision",
        )
    )
    reports = []
    while not rolling.done():
        plan = traffic.Plan(
            url=chat.url, model="chat", rate=2, duration=10, prompt_tokens=32, max_tokens=16,
            seed=len(reports),
        )  # fmt: skip
        reports.append(await load.run(plan))
    await rolling
    return reports


def test_a_model_that_is_not_there_is_a_condition_with_the_engines_own_words(
    kube: Kube, namespace: str
) -> None:
    service = Chat(kube, namespace)
    service.apply(model={"uri": "file:///models/nowhere"})
    item = service.until(
        lambda item: condition(item, "Available").get("reason") == "EngineFailed",
        timeout=90,
        what="the reason",
    )
    assert "file:///models/nowhere" in condition(item, "Available")["message"]
    assert condition(item, "Ready")["status"] == "False"


def test_deleting_the_sample_leaves_nothing(chat: Chat) -> None:
    chat.kube.delete("InferenceService", chat.namespace, "chat")
    for kind in ("Pod", "Deployment", "Service", "ConfigMap", "NetworkPolicy"):
        chat.kube.until(
            kind,
            chat.namespace,
            lambda items: not items,
            labels=OWN,
            timeout=120,
            what=f"deletion of every {kind}",
        )
