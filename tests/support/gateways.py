"""Inference gateways for tests: the kinds, what a gateway's controller answers, and requests through the real Envoy."""

import contextlib
import json
import subprocess
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import yaml

from dev import metrics
from dev.cluster import binaries, envoy, images
from dev.cluster.envoy import Envoy
from dev.cluster.kube import Kube, is_true
from dev.cluster.lifecycle import Cluster
from slipstream_runtime import contract
from slipstream_runtime.web import sockets

SOON = 120.0
GONE = 300.0
"""Longest waits, in seconds, on a slow machine."""
DEFINITIONS = {
    "sigs.k8s.io/gateway-api@v1.5.1": (
        "config/crd/standard/gateway.networking.k8s.io_gateways.yaml",
        "config/crd/standard/gateway.networking.k8s.io_httproutes.yaml",
    ),
    "sigs.k8s.io/gateway-api-inference-extension@v1.5.0": (
        "config/crd/bases/inference.networking.k8s.io_inferencepools.yaml",
    ),
}
GATEWAY = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "inference"}
ACCEPTED = {"Accepted": "True", "ResolvedRefs": "True"}
PROMPT_CHARACTERS = 4000
"""Many of a picker's cache blocks."""


@contextlib.contextmanager
def kinds(kube: Kube) -> Iterator[None]:
    """The kinds as their projects publish them, from their Go modules."""
    found = list(_definitions())
    for definition in found:
        kube.apply(definition)
    for definition in found:
        kube.until(
            "CustomResourceDefinition",
            None,
            lambda items: is_true(items[0], "Established"),
            name=definition["metadata"]["name"],
            timeout=SOON,
        )
    yield
    for definition in found:
        kube.delete("CustomResourceDefinition", None, definition["metadata"]["name"])


def _definitions() -> Iterator[dict[str, Any]]:
    for module, files in DEFINITIONS.items():
        told = subprocess.run(
            ["go", "mod", "download", "-json", module],
            capture_output=True,
            text=True,
            check=True,
            cwd="/",
        )
        for file in files:
            yield yaml.safe_load((Path(json.loads(told.stdout)["Dir"]) / file).read_text())


def conditions(generation: int, **statuses: str) -> list[dict[str, Any]]:
    return [
        {
            "type": kind,
            "status": status,
            "reason": "Refused" if status == "False" else kind,
            "message": "as the test says",
            "observedGeneration": generation,
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
        for kind, status in statuses.items()
    ]


def answer(kube: Kube, namespace: str, kind: str, **statuses: str) -> None:
    """What the gateway's controller would write about a child."""
    child = kube.until(kind, namespace, lambda items: items and items[0], name="chat", timeout=GONE)
    parent: dict[str, Any] = {
        "parentRef": {**GATEWAY, "namespace": namespace},
        "conditions": conditions(child["metadata"]["generation"], **statuses),
    }
    if kind == "HTTPRoute":
        parent["controllerName"] = "example.com/gateway"
    kube.write_status(kind, namespace, "chat", {"parents": [parent]})


def programmed(kube: Kube, namespace: str) -> None:
    """A Gateway whose controller has given it an address."""
    kube.apply(
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "Gateway",
            "metadata": {"name": "inference", "namespace": namespace},
            "spec": {
                "gatewayClassName": "any",
                "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}],
            },
        }
    )
    status = {
        "addresses": [{"type": "IPAddress", "value": "192.0.2.7"}],
        "conditions": conditions(1, Programmed="True"),
    }
    kube.write_status("Gateway", namespace, "inference", status)


def picker_image(cluster: Cluster) -> str:
    """Name of the real endpoint picker's image, which the cluster's node holds from then on."""
    program = binaries.extra("epp", report=lambda *_: None)
    image = images.program(program)
    images.load([image], layout=cluster.layout)
    return image.name


def unlike(count: int) -> list[str]:
    """Long prompts that share no beginning."""
    return [uuid.uuid4().hex * (PROMPT_CHARACTERS // 32) for _ in range(count)]


class Gateway:
    """The real Envoy in front of the service `chat`, as its HTTPRoute and InferencePool say."""

    def __init__(
        self, url: str, *, envoy: Envoy, namespace: str, picker: str, pods: dict[str, str]
    ) -> None:
        self.envoy = envoy
        self.http = httpx.Client(base_url=url, timeout=30, trust_env=False)
        self.namespace = namespace
        self.pods = pods
        """Name -> address."""
        self.picker = picker
        """Where the picker shows its metrics."""

    def ask(self, prompt: str, **fields: Any) -> None:
        """One request, which must have a whole answer."""
        body = {"model": "chat", "prompt": prompt, "max_tokens": 2, **fields}
        answer = self.http.post("/completions", json=body)
        assert answer.status_code == 200, answer.text
        assert answer.json()["usage"]["completion_tokens"] == body["max_tokens"]

    def shares(self, prompts: Sequence[str], *, clients: int) -> dict[str, int]:
        """How many of the prompts each pod answered."""
        before = self._answered()
        with ThreadPoolExecutor(clients) as pool:
            list(pool.map(self.ask, prompts))
        return {name: count - before[name] for name, count in self._answered().items()}

    def queue(self, pod: str) -> float:
        """How many requests wait in the pod, as the picker knows."""
        page = httpx.get(f"http://{self.picker}/metrics", trust_env=False).text
        found = metrics.samples(page, "inference_pool_per_pod_queue_size")
        return sum(one.value for one in found if pod in one.labels["model_server_pod"])

    def _answered(self) -> Counter[str]:
        found: Counter[str] = Counter()
        for name, address in self.pods.items():
            url = f"http://{address}:{contract.MANAGEMENT_PORT}{contract.METRICS_PATH}"
            page = httpx.get(url, trust_env=False).text
            found[name] = int(metrics.total(page, contract.REQUEST_SUCCESS))
        return found


@contextlib.contextmanager
def attached(kube: Kube, namespace: str, home: Path) -> Iterator[Gateway]:
    """Envoy as a gateway's controller would set it up for the service `chat`, whose engines are ready."""
    route, pool = (
        kube.get("HTTPRoute", namespace, "chat"),
        kube.get("InferencePool", namespace, "chat"),
    )
    assert route is not None
    assert pool is not None
    reference = pool["spec"]["endpointPickerRef"]
    service = kube.get("Service", namespace, reference["name"])
    assert service is not None
    selected = pool["spec"]["selector"]["matchLabels"]
    labels = ",".join(f"{key}={value}" for key, value in selected.items())
    pods = {
        pod["metadata"]["name"]: pod["status"]["podIP"]
        for pod in kube.find("Pod", namespace, labelSelector=labels)
    }
    picking = ",".join(f"{key}={value}" for key, value in service["spec"]["selector"].items())
    [picker] = kube.find("Pod", namespace, labelSelector=picking)
    address = f"{service['spec']['clusterIP']}:{reference['port']['number']}"
    with (
        contextlib.closing(sockets.bind(0)) as first,
        contextlib.closing(sockets.bind(0)) as second,
    ):
        port, admin = first.getsockname()[1], second.getsockname()[1]
    with envoy.running(home, route=route, picker=address, port=port, admin=admin) as running:
        url = f"{running.url}/{namespace}/chat/v1"
        gateway = Gateway(
            url,
            envoy=running,
            namespace=namespace,
            picker=f"{picker['status']['podIP']}:9090",
            pods=pods,
        )
        with gateway.http:
            yield gateway
