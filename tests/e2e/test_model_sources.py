"""Models from an object store and from a registry reach real engines: by a Job into a claim, and as an image volume.

The services start together, since most of a start is waiting for a core.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from dev.cluster import oci, registry
from dev.cluster.kube import Kube, Object, condition
from dev.cluster.lifecycle import Cluster
from tests.support import claims, clusters, services, stores

TARGET = Path("dev/models/target")
FILES = {path.name: path.read_bytes() for path in sorted(TARGET.iterdir()) if path.is_file()}
FILES["config.json"] = FILES.pop(
    "config.json"
)  # NB: a store has a model once its last file is there.
CLAIM, SECRET = "models", "store"


@pytest.fixture(scope="module")
def namespace(kube: Kube) -> Iterator[str]:
    with clusters.namespace(kube, "sources") as name:
        yield name


@pytest.fixture(scope="module")
def store(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[stores.Store]:
    folder = tmp_path_factory.mktemp("store")
    with stores.serve(folder, host=cluster.layout.network.host) as served:
        yield served


@pytest.fixture(scope="module")
def library(
    cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[registry.Registry]:
    folder = tmp_path_factory.mktemp("registry")
    with registry.serve(cluster, folder, report=lambda *_: None) as served:
        yield served


@pytest.fixture(scope="module")
def claim(kube: Kube, namespace: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with claims.shared(kube, namespace, CLAIM, folder=tmp_path_factory.mktemp("claim")) as folder:
        yield folder


def service(namespace: str, name: str, **spec: Any) -> Object:
    return {
        "apiVersion": "slipstream.dev/v1alpha1",
        "kind": "InferenceService",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"accelerator": {"type": "cpu"}, **services.DIRECT, **spec},
    }


def because(kube: Kube, namespace: str, name: str, *, kind: str, reason: str) -> str:
    """Wait for the reason of a condition; its message."""
    found = kube.until(
        "InferenceService",
        namespace,
        lambda items: condition(items[0], kind).get("reason") == reason and items[0],
        name=name,
        timeout=90,
        what=f"{name}: {kind} {reason}",
    )
    message: str = condition(found, kind)["message"]
    return message


def answer(kube: Kube, namespace: str, name: str) -> str:
    services.ready(kube, namespace, name, timeout=240)
    public = kube.get("Service", namespace, name)
    assert public is not None
    body = {"model": name, "prompt": "hello", "max_tokens": 4, "temperature": 0}
    url = f"http://{public['spec']['clusterIP']}/v1/completions"
    text: str = (
        httpx.post(url, json=body, timeout=60).raise_for_status().json()["choices"][0]["text"]
    )
    return text


def model_image(library: registry.Registry, folder: Path) -> str:
    """An ordinary image whose one layer has the model at its root."""
    layer = oci.Layer()
    for name, content in FILES.items():
        layer.add(f"/{name}", content)
    archive = folder / "model.tar"
    oci.write(archive, name="models/target:1", layers=[layer], config={})
    return library.push(archive, name="models/target", tag="1")


def artifact(library: registry.Registry) -> str:
    """The same files as an artifact of CNCF's ModelPack."""
    layer = oci.Layer()
    for name, content in FILES.items():
        layer.add(f"/{name}", content)
    media = "application/vnd.cncf.model"

    def put(content: bytes, kind: str) -> dict[str, Any]:
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        library.put_blob(content, name="models/packed", digest=digest)
        return {"mediaType": f"{media}.{kind}", "digest": digest, "size": len(content)}

    weights = layer.pack()
    differ = [f"sha256:{hashlib.sha256(weights).hexdigest()}"]
    config = json.dumps({"descriptor": {}, "modelfs": {"type": "layers", "diffIds": differ}})
    kind = "application/vnd.oci.image.manifest.v1+json"
    manifest = {
        "schemaVersion": 2,
        "mediaType": kind,
        "artifactType": f"{media}.manifest.v1+json",
        "config": put(config.encode(), "config.v1+json"),
        "layers": [put(weights, "weight.v1.tar")],
    }
    content = json.dumps(manifest).encode()
    return library.put_manifest(content, name="models/packed", tag="1", media=kind)


def test_models_of_a_store_and_of_a_registry_are_served(
    kube: Kube,
    namespace: str,
    claim: Path,
    store: stores.Store,
    library: registry.Registry,
    tmp_path: Path,
) -> None:
    keys = {
        "AWS_ENDPOINT_URL": store.url,
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "a-secret-of-the-tests",
    }
    secret = {"apiVersion": "v1", "kind": "Secret", "stringData": keys}
    kube.apply({**secret, "metadata": {"name": SECRET, "namespace": namespace}})
    kube.apply(
        service(
            namespace,
            "stored",
            model={
                "uri": "s3://weights/target",
                "credentials": {"name": SECRET},
                "load": "Streamed",
            },
            cache={"model": {"claim": {"name": CLAIM}}},
        )
    )
    # The store has nothing yet: a condition, and no engine that waits with an accelerator in its hands.
    said = because(kube, namespace, "stored", kind="ModelReady", reason="FetchFailed")
    assert "s3://weights/target: bucket weights has no object below target/" in said
    pods = kube.find("Pod", namespace)
    assert [pod["spec"]["containers"][0]["name"] for pod in pods] == ["fetch"]
    assert "a-secret-of-the-tests" not in json.dumps(pods)
    store.put(FILES, prefix="target")

    image = {"uri": f"oci://{model_image(library, tmp_path)}"}
    kube.apply(service(namespace, "imaged", model=image, cache={"prefetch": True}))
    kube.apply(service(namespace, "packed", model={"uri": f"oci://{artifact(library)}"}))
    said = because(kube, namespace, "packed", kind="Available", reason="EngineFailed")
    assert "the image is empty. It must be an ordinary container image" in said
    kube.delete("InferenceService", namespace, "packed")

    assert answer(kube, namespace, "stored") == answer(kube, namespace, "imaged")
    (weights,) = claim.rglob("model.safetensors")
    assert weights.read_bytes() == FILES["model.safetensors"]
    # The node pulled the image for a pod that read the model in it; no Job of a download is left.
    jobs = kube.until(
        "Job",
        namespace,
        lambda items: all(item["status"].get("succeeded") for item in items) and items,
        timeout=60,
        what="the Job that has the node pull the image",
    )
    (job,) = jobs
    assert job["metadata"]["name"].startswith("imaged-prefetch-")
    assert store.downloads("target/model.safetensors") == 1
