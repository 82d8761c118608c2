"""A ModelBuild on the real node: killed in the middle, it resumes, proves and publishes, and a service waits for it."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from dev.cluster import builder
from dev.cluster.kube import Kube, Object, condition
from dev.cluster.lifecycle import Cluster
from tests.support import claims, clusters, services

SAMPLE = Path("manifests/samples/build.yaml")
HELDOUT = Path("dev/models/heldout.jsonl")
CLAIM, NAME, STEP, SERVICE = "models", "chat-int8", "0-quantize", "chat"


@pytest.fixture(scope="module")
def namespace(kube: Kube) -> Iterator[str]:
    with clusters.namespace(kube, "build") as name:
        yield name


@pytest.fixture(scope="module")
def claim(kube: Kube, namespace: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with claims.shared(kube, namespace, CLAIM, folder=tmp_path_factory.mktemp("claim")) as folder:
        yield folder


def _build(kube: Kube, namespace: str) -> Object:
    found = kube.get("ModelBuild", namespace, NAME)
    assert found is not None
    return found


def _until(kube: Kube, namespace: str, what: str, met: Any) -> Object:
    """Wait until the build meets the condition, or has failed."""

    def done(items: list[Object]) -> Object | None:
        status = items[0].get("status", {})
        return items[0] if met(status) or status.get("phase") == "Failed" else None

    return kube.until("ModelBuild", namespace, done, name=NAME, timeout=400, what=what)


def test_a_killed_build_resumes_and_publishes_what_it_proved(
    kube: Kube, cluster: Cluster, namespace: str, claim: Path
) -> None:
    builder.install(cluster)
    kube.kubectl("create", "configmap", "heldout", "-n", namespace, f"--from-file={HELDOUT}")
    kube.apply(_service(namespace))
    kube.apply({**yaml.safe_load(SAMPLE.read_text()), **_named(namespace)})

    found = _until(kube, namespace, "the step runs", lambda status: status.get("step") == STEP)
    assert found["status"]["phase"] == "Running", found["status"]
    (pod,) = _pods(kube, namespace)
    _check_pod(pod)
    waits = kube.get("InferenceService", namespace, SERVICE)
    assert waits is not None and condition(waits, "ModelReady")["reason"] == "BuildRunning"
    (work,) = claim.glob(".slipstream-build-*")
    source = work / "records" / "source.json"
    before = source.stat().st_mtime_ns
    kube.delete("Pod", namespace, pod["metadata"]["name"])

    found = _until(kube, namespace, "the build ends", lambda status: status["phase"] == "Ready")
    status = found["status"]
    assert status["phase"] == "Ready", status
    assert source.stat().st_mtime_ns == before  # the stage before the kill did not run again
    (other,) = _pods(kube, namespace)
    assert other["metadata"]["uid"] != pod["metadata"]["uid"]
    _check_status(status, claim / NAME)
    assert found["metadata"].get("finalizers") is None
    assert _answer(kube, namespace)
    kube.delete("ModelBuild", namespace, NAME)
    kube.until("Job", namespace, lambda items: not items, timeout=60, what="no Job is left")
    assert (claim / NAME / "config.json").exists()
    assert _answer(kube, namespace)  # the engine goes on with the artifact


def _pods(kube: Kube, namespace: str) -> list[Object]:
    """Pods of the build."""
    return kube.find("Pod", namespace, labelSelector=f"slipstream.dev/build={NAME}")


def _service(namespace: str) -> Object:
    spec = {"accelerator": {"type": "cpu"}, "model": {"uri": f"build://{NAME}"}, **services.DIRECT}
    return {
        "apiVersion": "slipstream.dev/v1alpha1",
        "kind": "InferenceService",
        "metadata": {"name": SERVICE, "namespace": namespace},
        "spec": spec,
    }


def _answer(kube: Kube, namespace: str) -> str:
    """Completion of the served artifact."""
    services.ready(kube, namespace, SERVICE, timeout=240)
    public = kube.get("Service", namespace, SERVICE)
    assert public is not None
    url = f"http://{public['spec']['clusterIP']}/v1/completions"
    body = {"model": SERVICE, "prompt": "hello", "max_tokens": 4, "temperature": 0}
    answer = httpx.post(url, json=body, timeout=60).raise_for_status().json()
    text: str = answer["choices"][0]["text"]
    return text


def _named(namespace: str) -> Object:
    return {"metadata": {"name": NAME, "namespace": namespace}}


def _check_pod(pod: Object) -> None:
    """The namespace enforces restricted pod security; the rest is seen in the pod."""
    spec = pod["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert not any("projected" in volume for volume in spec["volumes"])
    stages = [one["name"] for one in [*spec["initContainers"], *spec["containers"]]]
    assert stages == ["source", STEP, "0-quality", "publish"]


def _check_status(status: dict[str, Any], folder: Path) -> None:
    artifact, steps = status["artifact"], {step["name"]: step for step in status["steps"]}
    assert artifact["uri"] == f"pvc://{CLAIM}/{NAME}"
    manifest = folder / "slipstream-build.json"
    assert artifact["sha256"] == hashlib.sha256(manifest.read_bytes()).hexdigest()
    for file in artifact["files"]:
        content = (folder / file["name"]).read_bytes()
        assert file["sha256"] == hashlib.sha256(content).hexdigest()
    assert 0 < artifact["bytes"] < artifact["sourceBytes"]
    assert {step["phase"] for step in steps.values()} == {"Succeeded"}
    quality = steps[STEP]["quality"]
    assert (status["quality"], quality["verdict"], quality["items"]) == ("Passed", "Passed", 100)
    assert quality["metrics"][0]["name"] == "ExactMatch"
    lineage = status["lineage"]
    assert lineage["source"] == "file:///models/target"
    assert len(lineage["sha256"]) == len(lineage["recipe"]) == 64
    assert {entry["name"] for entry in lineage["versions"]} >= {"torch", "llmcompressor"}
    assert status["peakMemory"] and status["duration"] and status["estimate"]["memory"]
    ready = condition({"status": status}, "Ready")
    assert (ready["status"], ready["reason"]) == ("True", "Published")
    assert json.loads(manifest.read_text())["name"] == NAME
