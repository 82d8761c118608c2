"""A service with `build://` on a real API server: its build may come later, end, go and come again."""

import json
from typing import Any

from dev.cluster.kube import Kube, Object, condition
from tests.support import services

SOON = 20.0
BUILD: dict[str, Any] = {
    "source": "hf://org/model",
    "steps": [{"quantize": {"scheme": "w8a8"}}],
    "output": {"uri": "pvc://models/small"},
}


def _service(namespace: str) -> dict[str, Any]:
    return {
        "apiVersion": "slipstream.dev/v1alpha1",
        "kind": "InferenceService",
        "metadata": {"name": "chat", "namespace": namespace},
        "spec": {
            "model": {"uri": "build://small"},
            "template": services.FAKE_NODES,
            **services.DIRECT,
        },
    }


def _says(
    kube: Kube, namespace: str, status: str, reason: str, *, digest: str | None = None
) -> Object:
    """Return the service when its condition ModelReady has this reason, and it uses the artifact with this digest."""

    def found(items: list[Object]) -> Object | None:
        for item in items:
            ready = condition(item, "ModelReady")
            (source,) = item["status"].get("builds", [{}])
            if (ready.get("status"), ready.get("reason")) == (status, reason):
                return item if source.get("digest") == digest else None
        return None

    shown: Object = kube.until(
        "InferenceService", namespace, found, name="chat", timeout=SOON, what=reason
    )
    return shown


def _apply_build(kube: Kube, namespace: str) -> None:
    """Make a build whose pod finds no claim. The operator then has nothing more to write about it."""
    kube.apply(
        {
            "apiVersion": "slipstream.dev/v1alpha1",
            "kind": "ModelBuild",
            "metadata": {"name": "small", "namespace": namespace},
            "spec": BUILD,
        }
    )
    kube.until(
        "ModelBuild",
        namespace,
        lambda items: "Unschedulable" in condition(items[0], "Ready").get("message", ""),
        name="small",
        timeout=SOON,
        what="the operator's status of the build",
    )


def _publish(kube: Kube, namespace: str, digest: str) -> None:
    """Write the status of a build that is done, as no build can be here, where images are not pulled."""
    artifact = {"uri": "file:///models/target", "sha256": digest}
    kube.write_status("ModelBuild", namespace, "small", {"phase": "Ready", "artifact": artifact})


def _deployments(kube: Kube, namespace: str) -> dict[str, str]:
    found = kube.find("Deployment", namespace, labelSelector="slipstream.dev/service=chat")
    return {item["metadata"]["name"]: item["metadata"]["uid"] for item in found}


def test_a_service_follows_the_build_that_it_names(kube: Kube, namespace: str) -> None:
    kube.apply(_service(namespace))
    waiting = _says(kube, namespace, "False", "BuildMissing")
    assert condition(waiting, "Accepted")["status"] == "True"
    assert _deployments(kube, namespace) == {}
    _apply_build(kube, namespace)
    _says(kube, namespace, "False", "BuildRunning")
    first, second = "a" * 64, "b" * 64
    _publish(kube, namespace, first)
    served = _says(kube, namespace, "True", "Loaded", digest=first)
    assert served["status"]["builds"] == [
        {
            "field": "spec.model.uri",
            "build": "small",
            "artifact": "file:///models/target",
            "digest": first,
        }
    ]
    before = _deployments(kube, namespace)
    (name,) = before
    data = (kube.get("ConfigMap", namespace, name) or {})["data"]
    assert json.loads(data["engine.json"])["model"]["uri"] == "file:///models/target"

    kube.delete("ModelBuild", namespace, "small")
    _says(kube, namespace, "True", "BuildMissing", digest=first)
    assert _deployments(kube, namespace) == before
    _apply_build(kube, namespace)
    _says(kube, namespace, "False", "BuildRunning")
    assert _deployments(kube, namespace) == before
    _publish(kube, namespace, second)
    _says(kube, namespace, "True", "Loaded", digest=second)
    kube.until(
        "Deployment",
        namespace,
        lambda items: len(items) == 1 and items[0]["metadata"]["name"] != name,
        labels="slipstream.dev/service=chat",
        timeout=SOON,
        what="only the revision of the second artifact",
    )
