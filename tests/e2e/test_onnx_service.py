"""The sample encoder through the operator: a real node, the real ONNX Runtime, the real Prometheus."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml

from dev.cluster.kube import Kube
from dev.models import minilm
from slipstream_runtime import contract
from tests.support import clusters, encoders, services

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


def _has_current_latency(items: list[Any]) -> bool:
    found = items[0]["status"].get("slo", []) if items else []
    objectives = {entry["objective"]: entry for entry in found}
    return bool(objectives.get("e2e-p95", {}).get("current"))
