"""The sample encoder through the operator: a real node, the real ONNX Runtime, the real Prometheus."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from dev.cluster.kube import Kube, is_true
from dev.models import minilm
from slipstream_cli.main import main
from slipstream_runtime import contract
from tests.support import clusters, encoders, searches, services

# NB: told by torch, of its own code, whenever it traces.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
]

SAMPLE = Path("manifests/samples/embeddings.yaml")
TEXTS = ["A kitten sleeps on the sofa.", "The car would not start.", "cats"]


class Service:
    """The sample in a namespace of its own."""

    def __init__(self, kube: Kube, namespace: str) -> None:
        self.kube = kube
        self.namespace = namespace

    @property
    def url(self) -> str:
        service = self.kube.get("Service", self.namespace, "embeddings")
        assert service is not None
        return f"http://{service['spec']['clusterIP']}"

    def post(self, path: str, **body: Any) -> Any:
        response = httpx.post(self.url + path, json={"model": "embeddings", **body}, timeout=60)
        assert response.status_code == 200, response.text
        return response.json()


@pytest.fixture(scope="module")
def service(kube: Kube) -> Iterator[Service]:
    minilm.main()
    with clusters.namespace(kube, "embeddings") as namespace:
        manifest = yaml.safe_load(SAMPLE.read_text())
        manifest["metadata"]["namespace"] = namespace
        manifest["spec"] |= services.DIRECT
        kube.apply(manifest)
        services.ready(kube, namespace, "embeddings", timeout=120)
        yield Service(kube, namespace)


def test_the_sample_gives_pytorchs_vectors_through_its_service(service: Service) -> None:
    data = service.post("/v1/embeddings", input=TEXTS)["data"]
    found = np.array([item["embedding"] for item in data])
    assert np.abs(found - encoders.reference().vectors(TEXTS)).max() < 1e-3


def test_it_ranks(service: Service) -> None:
    found = service.post("/v1/rerank", query=TEXTS[2], documents=TEXTS[:2])["results"]
    assert [result["index"] for result in found] == [0, 1]


def test_the_engine_tells_its_provider_and_status_its_runtime(service: Service) -> None:
    (pod,) = service.kube.find(
        "Pod", service.namespace, labelSelector="slipstream.dev/service=embeddings"
    )
    management = f"http://{pod['status']['podIP']}:{contract.MANAGEMENT_PORT}"
    providers = httpx.get(management + contract.STATUS_PATH, timeout=10).json()["providers"]
    assert providers["used"] == ["CPUExecutionProvider"]
    found = service.kube.get("InferenceService", service.namespace, "embeddings")
    assert found is not None
    assert found["status"]["engine"]["runtime"] == "onnx"


def test_its_objective_is_measured_in_prometheus(service: Service) -> None:
    async def drive() -> None:
        async with httpx.AsyncClient(base_url=service.url, timeout=60) as client:
            while True:
                body = {"model": "embeddings", "input": TEXTS}
                (await client.post("/v1/embeddings", json=body)).raise_for_status()

    async def measured() -> None:
        driving = asyncio.create_task(drive())
        try:
            await asyncio.to_thread(
                service.kube.until,
                "InferenceService",
                service.namespace,
                _has_current_latency,
                name="embeddings",
                timeout=90,
            )
        finally:
            driving.cancel()
            await asyncio.gather(driving, return_exceptions=True)

    asyncio.run(measured())


def test_a_route_adds_passages_of_a_search_in_an_index_of_the_sample(
    service: Service, tmp_path: Path
) -> None:
    kube, namespace = service.kube, service.namespace
    index = tmp_path / "handbook.npz"
    (tmp_path / "handbook.md").write_text(searches.HANDBOOK)
    words = ["--embeddings", f"{service.url}/v1", "--model", "embeddings", "-o", str(index)]
    built = CliRunner().invoke(main, ["index", str(tmp_path / "handbook.md"), *words])
    assert built.exit_code == 0, built.output
    chat = services.simulated(namespace, "chat", fake=False, routing={"mode": "Router"})
    url = f"http://search.{namespace}.svc:8000/v1/vector_stores/handbook/search"
    hooks = {
        "retrieve": {
            "url": url,
            "topK": 1,
            "timeout": "20s",
            "apiKey": {"name": "search", "key": "key"},
        },
        "condense": {"service": "missing"},
    }
    route = {
        "apiVersion": "slipstream.dev/v1alpha1",
        "kind": "InferenceRoute",
        "metadata": {"name": "helper", "namespace": namespace},
        "spec": {"model": "helper", "backends": [{"service": "chat"}], **hooks},
    }
    profile = kube.get("ServingProfile", None, "local")
    assert profile is not None
    found = searches.manifests(
        namespace,
        index,
        image=profile["spec"]["images"]["onnx"],
        embeddings="http://embeddings/v1",
        model="embeddings",
        key="s3cret",
    )
    for manifest in [chat, *found, route]:
        kube.apply(manifest)
    services.ready(kube, namespace, "chat", timeout=120)
    kube.until(
        "InferenceRoute",
        namespace,
        lambda items: items and is_true(items[0], "Ready"),
        name="helper",
        timeout=60,
        what="the route",
    )
    kube.until(
        "Deployment",
        namespace,
        lambda items: items and items[0].get("status", {}).get("readyReplicas"),
        name="search",
        timeout=120,
        what="the search",
    )
    (condition,) = (
        each
        for each in kube.get("InferenceRoute", namespace, "helper")["status"]["conditions"]  # type: ignore[index]
        if each["type"] == "HooksReady"
    )
    assert (condition["status"], condition["reason"]) == ("False", "HookServiceMissing")
    router = kube.get("Service", namespace, contract.ROUTER_NAME)
    assert router is not None
    question = [{"role": "user", "content": "Where do young cats rest?"}]

    def prompt(model: str) -> int:
        reply = httpx.post(
            f"http://{router['spec']['clusterIP']}/v1/chat/completions",
            json={"model": model, "messages": question, "max_tokens": 2},
            timeout=60,
        )
        assert reply.status_code == 200, reply.text
        tokens: int = reply.json()["usage"]["prompt_tokens"]
        return tokens

    assert prompt("helper") > prompt("chat") + 20


def _has_current_latency(items: list[Any]) -> bool:
    found = items[0]["status"].get("slo", []) if items else []
    objectives = {entry["objective"]: entry for entry in found}
    return bool(objectives.get("e2e-p95", {}).get("current"))
