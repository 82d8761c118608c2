"""A pod that only has the labels of engines or routers gets no request, and the status names it."""

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from dev import waiting
from dev.cluster.kube import Kube, Object, Refused, condition
from slipstream_operator import names
from tests.support import services

SOON = 60.0
REQUESTS = 12
BINDING = "ValidatingAdmissionPolicyBinding"
ANSWER = '{"object": "foreign"}'
SERVER = f"""
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.wfile.write(b'{ANSWER}')
http.server.HTTPServer(("", 8000), Handler).serve_forever()
"""


def _foreign(engine: Object, name: str) -> dict[str, Any]:
    """A server of another author in a pod with the labels that Services select."""
    labels = {
        key: value
        for key, value in engine["metadata"]["labels"].items()
        if key != "pod-template-hash"
    }
    spec = engine["spec"]
    (container,) = spec["containers"]
    kept = ("name", "image", "imagePullPolicy", "ports", "securityContext")
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": engine["metadata"]["namespace"],
            "labels": labels,
        },
        "spec": {
            "runtimeClassName": spec["runtimeClassName"],
            "securityContext": spec["securityContext"],
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 0,
            "containers": [
                {
                    **{key: container[key] for key in kept if key in container},
                    "command": ["python", "-c", SERVER],
                }
            ],
        },
    }


@contextlib.contextmanager
def _without_policy(kube: Kube, name: str) -> Iterator[None]:
    """A cluster whose policy was removed."""
    found = json.loads(kube.kubectl("get", BINDING, name, "-o", "json"))
    kube.kubectl("delete", BINDING, name)
    try:
        yield
    finally:
        metadata = {"name": name, "labels": found["metadata"]["labels"]}
        binding = {**found, "metadata": metadata}
        kube.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(binding))


def _is_ready(pods: list[Object]) -> bool:
    return bool(pods) and any(
        one["type"] == "Ready" and one["status"] == "True"
        for one in pods[0].get("status", {}).get("conditions", [])
    )


def _answers(url: str) -> list[str]:
    body = {"model": "chat", "prompt": "hi", "max_tokens": 1}
    with httpx.Client(timeout=30) as http:
        return [
            http.post(f"{url}/v1/completions", json=body).json()["object"] for _ in range(REQUESTS)
        ]


def test_a_pod_with_the_labels_of_an_engine_is_refused_or_else_gets_no_request(
    kube: Kube, namespace: str
) -> None:
    kube.apply(services.simulated(namespace, "chat", fake=False, routing={"mode": "Router"}))
    services.ready(kube, namespace, "chat", timeout=120)
    service = kube.get("Service", namespace, "chat")
    assert service is not None
    url = f"http://{service['spec']['clusterIP']}"
    (engine,) = kube.find("Pod", namespace, labelSelector=f"{names.SERVICE_LABEL}=chat")
    theirs = _foreign(engine, "theirs")
    with pytest.raises(Refused, match="Only the workloads of Slipstream"):
        kube.apply(theirs)
    assert "foreign" not in _answers(url)

    with _without_policy(kube, "slipstream-pods"):

        def applied() -> bool:
            with contextlib.suppress(Refused):
                kube.apply(theirs)
            return kube.get("Pod", namespace, "theirs") is not None

        waiting.until(applied, seconds=SOON, what="the end of the policy", interval=0.2)
        kube.until("Pod", namespace, _is_ready, name="theirs", timeout=SOON)
    found = kube.until(
        "InferenceService",
        namespace,
        lambda items: condition(items[0], "ForeignPods").get("status") == "True" and items[0],
        name="chat",
        timeout=SOON,
    )
    assert "theirs" in condition(found, "ForeignPods")["message"]
    assert found["status"]["replicas"] == 1
    assert "foreign" not in _answers(url)
    kube.delete("Pod", namespace, "theirs")
    kube.until(
        "InferenceService",
        namespace,
        lambda items: not condition(items[0], "ForeignPods"),
        name="chat",
        timeout=SOON,
    )
