"""What an InferenceService says about its engine reaches the engine: limits, keys, form, adapters, and a draft that is
noise is rolled away.

The services start together, since most of a start is waiting for a core.
"""

import asyncio
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from dev.cluster.kube import Kube, Object, condition, is_true
from slipstream_runtime.evaluate import load, traffic
from slipstream_runtime.machine import hardware
from tests.support import clusters, engines, services
from tests.support.adapters import write_adapter

MODELS = Path("dev/models")
START, PROPAGATION, VERDICT = 240.0, 150.0, 240.0
KEY = "a-key-of-the-tests"


@pytest.fixture(scope="module")
def scratch() -> Iterator[Path]:
    """A folder of models that the node sees as /models/scratch."""
    folder = MODELS / "scratch"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def namespace(kube: Kube, scratch: Path) -> Iterator[str]:
    with clusters.namespace(kube, "settings") as name:
        _write_models(scratch)
        secret = {"apiVersion": "v1", "kind": "Secret", "stringData": {"team-a": KEY}}
        kube.apply({**secret, "metadata": {"name": "keys", "namespace": name}})
        for manifest in (_strict(name), _adapted(name), _kernelless(name)):
            kube.apply(manifest)
        yield name


def _write_models(scratch: Path) -> None:
    """A draft that knows nothing, two adapters, and a checkpoint that this CPU may have no kernel for."""
    quantize = pytest.importorskip("dev.models.quantize")
    engines.write_noise(scratch / "noise", like=MODELS / "draft")
    for seed, name in enumerate(("formal", "brief")):
        write_adapter(scratch / name, model=MODELS / "target", seed=seed)
    quantize.write(MODELS / "target", scratch / "w4a16", scheme="W4A16")
    for file in scratch.rglob("*.safetensors"):
        file.chmod(0o644)  # it is written for its owner alone, and engines are somebody else


def _service(namespace: str, name: str, **spec: Any) -> dict[str, Any]:
    model = {"uri": "file:///models/target", **spec.pop("model", {})}
    return {
        "apiVersion": "slipstream.dev/v1alpha1",
        "kind": "InferenceService",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"model": model, "accelerator": {"type": "cpu"}, **services.DIRECT, **spec},
    }


def _strict(namespace: str) -> dict[str, Any]:
    return _service(
        namespace,
        "strict",
        limits={"maxOutputTokens": 64, "maxPromptTokens": 100, "concurrency": 2, "queue": 1},
        output={"regex": "(yes|no)", "enforce": True},
        routing={"mode": "Direct", "apiKeys": {"name": "keys"}},
        engineArgs={"seed": 7},
    )


def _drafting(namespace: str) -> dict[str, Any]:
    noise = {"draft": "file:///models/scratch/noise", "tokens": 4, "disableBelowAcceptance": "30%"}
    return _service(namespace, "drafting", speculation=noise)


def _adapted(namespace: str, *names: str) -> dict[str, Any]:
    listed = names or ("formal",)
    adapters = [{"name": name, "uri": f"file:///models/scratch/{name}"} for name in listed]
    return _service(namespace, "adapted", model={"adapters": adapters})


def _kernelless(namespace: str) -> dict[str, Any]:
    return _service(namespace, "kernelless", model={"uri": "file:///models/scratch/w4a16"})


class Client:
    """Requests to one service, with the key."""

    def __init__(self, kube: Kube, namespace: str, name: str) -> None:
        services.ready(kube, namespace, name, timeout=START)
        service = kube.get("Service", namespace, name)
        assert service is not None
        self.name = name
        self.url = f"http://{service['spec']['clusterIP']}"

    def ask(self, *, key: str | None = KEY, **more: Any) -> httpx.Response:
        body = {"model": self.name, "prompt": "Is it so?", "max_tokens": 8, **more}
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        return httpx.post(f"{self.url}/v1/completions", json=body, headers=headers, timeout=60)

    def models(self) -> list[str]:
        answer = httpx.get(f"{self.url}/v1/models", timeout=10).raise_for_status()
        return [entry["id"] for entry in answer.json()["data"]]


@pytest.fixture(scope="module")
def strict(kube: Kube, namespace: str) -> Client:
    return Client(kube, namespace, "strict")


def test_the_service_answers_only_to_its_keys(strict: Client) -> None:
    assert strict.ask().status_code == 200
    assert strict.ask(key=None).status_code == 401
    assert strict.ask(key="another").status_code == 401


def test_the_service_answers_in_the_form_that_it_was_given(strict: Client) -> None:
    answers = {strict.ask(temperature=1.0).json()["choices"][0]["text"] for _ in range(5)}
    assert answers <= {"yes", "no"}


@pytest.mark.parametrize(
    ("asked", "status", "told"),
    [
        ({"max_tokens": 65}, 400, "64"),
        ({"prompt": "one two three " * 100}, 413, "100"),
        ({"structured_outputs": {"regex": "a"}}, 400, "spec.output"),
    ],
)
def test_what_is_over_the_limits_is_refused(
    strict: Client, asked: dict[str, Any], status: int, told: str
) -> None:
    answer = strict.ask(**asked)
    assert answer.status_code == status, answer.text
    assert told in answer.json()["error"]["message"]


def test_a_burst_is_answered_or_told_to_come_back(strict: Client) -> None:
    async def main() -> list[httpx.Response]:
        headers = {"Authorization": f"Bearer {KEY}"}
        body = {"model": "strict", "prompt": "Is it so?", "max_tokens": 8, "stream": True}
        async with httpx.AsyncClient(base_url=strict.url, headers=headers, timeout=60) as client:
            sent = (client.post("/v1/completions", json=body) for _ in range(16))
            return list(await asyncio.gather(*sent))

    answers = asyncio.run(main())
    assert {answer.status_code for answer in answers} == {200, 429}
    for answer in answers:
        if answer.status_code == 200:
            assert answer.text.rstrip().endswith("[DONE]")
            assert '"error"' not in answer.text
        else:
            assert int(answer.headers["retry-after"]) > 0


def test_an_adapter_comes_without_a_restart(kube: Kube, namespace: str) -> None:
    adapted = Client(kube, namespace, "adapted")
    assert adapted.models() == ["adapted", "formal"]
    before = _pods(kube, namespace, "adapted")
    kube.apply(_adapted(namespace, "formal", "brief"))
    kube.until(
        "InferenceService",
        namespace,
        lambda _items: "brief" in adapted.models(),
        name="adapted",
        timeout=PROPAGATION,
        what="the new adapter",
    )
    assert _pods(kube, namespace, "adapted") == before


def test_a_model_without_a_kernel_is_not_available_and_vllms_reason_is_told(
    kube: Kube, namespace: str
) -> None:
    if hardware.cpu_flags() & {"avx512f"}:
        pytest.skip("this CPU has the kernel for W4A16")
    kube.until(
        "InferenceService",
        namespace,
        lambda items: items and "cpu_gemm_wna16" in condition(items[0], "Available")["message"],
        name="kernelless",
        timeout=START,
        what="vLLM's own reason",
    )
    kube.delete("InferenceService", namespace, "kernelless")


def test_a_draft_that_is_noise_is_rolled_away(kube: Kube, namespace: str) -> None:
    kube.apply(_drafting(namespace))
    drafting = Client(kube, namespace, "drafting")
    plan = traffic.Plan(
        url=drafting.url,
        model="drafting",
        duration=3600,  # until it is cancelled
        concurrency=2,
        prompts=({"prompt": "Is it so?"},),
        max_tokens=32,
    )

    def rolled_away(items: list[Object]) -> Any:
        engine = items[0]["status"].get("engine", {}) if items else {}
        settled = is_true(items[0], "Ready") and "revisions" not in items[0]["status"]
        return engine.get("speculationDisabled") if settled else None

    async def main() -> str:
        driving = asyncio.create_task(load.run(plan))
        told: str = await asyncio.to_thread(
            kube.until,
            "InferenceService",
            namespace,
            rolled_away,
            name="drafting",
            timeout=VERDICT,
            what="the end of the draft",
        )
        driving.cancel()
        await asyncio.gather(driving, return_exceptions=True)
        return told

    assert "fewer than the 30% of spec.speculation.disableBelowAcceptance" in asyncio.run(main())
    told = {event["reason"] for event in kube.find("Event", namespace)}
    assert "SpeculationDisabled" in told
    (pod,) = _pods(kube, namespace, "drafting")
    revision = kube.get("Pod", namespace, pod)["metadata"]["labels"]["slipstream.dev/revision"]
    engine = kube.get("ConfigMap", namespace, f"drafting-{revision}")
    assert "speculation" not in json.loads(engine["data"]["engine.json"])


def _pods(kube: Kube, namespace: str, name: str) -> list[str]:
    found = kube.find("Pod", namespace, labelSelector=f"slipstream.dev/service={name}")
    return [pod["metadata"]["name"] for pod in found if "deletionTimestamp" not in pod["metadata"]]
