"""Inference gateways: attached to where the cluster has the kinds, told about where it has not.

The kinds are those of the Gateway API and its inference extension; what a gateway's controller would answer is written
into the status by the tests.
"""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from dev.kube import Kube, Object, condition, is_true
from tests import services

SOON = 20.0
GONE = 60.0
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


def definitions() -> Iterator[dict[str, Any]]:
    """The kinds as their projects publish them, from their Go modules."""
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


@pytest.fixture(scope="module")
def kinds(kube: Kube) -> Iterator[None]:
    """The kinds of the Gateway API exist, and the profile names an endpoint picker."""
    found = list(definitions())
    kube.patch(
        "ServingProfile", None, "local", {"spec": {"images": {"picker": "example.com/picker:1"}}}
    )
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


def attached(namespace: str) -> dict[str, Any]:
    routing = {"mode": "Gateway", "gateway": {"name": "inference"}}
    return services.simulated(namespace, "chat", routing=routing)


def until_available(kube: Kube, namespace: str, reason: str, *, timeout: float = SOON) -> Object:
    found: Object = kube.until(
        "InferenceService",
        namespace,
        lambda items: condition(items[0], "Available").get("reason") == reason and items[0],
        name="chat",
        timeout=timeout,
    )
    return found


def until_told(kube: Kube, namespace: str, message: str) -> None:
    kube.until(
        "InferenceService",
        namespace,
        lambda items: message in condition(items[0], "Available").get("message", ""),
        name="chat",
        timeout=GONE,
    )


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


def test_without_the_kinds_it_is_a_condition_and_the_engines_run(
    kube: Kube, namespace: str
) -> None:
    kube.patch(
        "ServingProfile", None, "local", {"spec": {"images": {"picker": "example.com/picker:1"}}}
    )
    kube.apply(attached(namespace))
    told = until_available(kube, namespace, "GatewayUnavailable")
    assert "install the CRDs of the Gateway API" in condition(told, "Available")["message"]
    assert condition(told, "Accepted")["status"] == "True"
    assert kube.find("Deployment", namespace, labelSelector="slipstream.dev/revision")


@pytest.mark.usefixtures("kinds")
def test_a_service_is_attached_and_available_once_the_gateway_says_so(
    kube: Kube, namespace: str
) -> None:
    kube.apply(attached(namespace))
    missing = until_available(kube, namespace, "GatewayUnavailable", timeout=GONE)
    assert "does not exist: apply it" in condition(missing, "Available")["message"]
    programmed(kube, namespace)
    until_told(kube, namespace, "no gateway has claimed InferencePool chat yet")
    answer(kube, namespace, "InferencePool", **ACCEPTED)
    answer(kube, namespace, "HTTPRoute", **ACCEPTED)
    ready = until_available(kube, namespace, "EnginesReady")
    assert ready["status"]["url"] == f"http://192.0.2.7/{namespace}/chat/v1"


@pytest.mark.usefixtures("kinds")
def test_what_the_gateway_refuses_is_told_in_its_words(kube: Kube, namespace: str) -> None:
    programmed(kube, namespace)
    kube.apply(attached(namespace))
    answer(kube, namespace, "InferencePool", **ACCEPTED)
    answer(kube, namespace, "HTTPRoute", Accepted="True", ResolvedRefs="False")
    refusal = "HTTPRoute chat is not ResolvedRefs: Refused: as the test says"
    until_told(kube, namespace, refusal)


@pytest.mark.usefixtures("kinds")
def test_what_attached_it_goes_when_the_mode_changes(kube: Kube, namespace: str) -> None:
    kube.apply(attached(namespace))
    kube.until("HTTPRoute", namespace, bool, name="chat", timeout=GONE)
    kube.apply(services.simulated(namespace, "chat"))
    for kind in ("HTTPRoute", "InferencePool"):
        kube.until(kind, namespace, lambda items: not items, name="chat", timeout=SOON)
    for kind in ("Deployment", "Service", "ServiceAccount", "Role", "RoleBinding", "ConfigMap"):
        kube.until(kind, namespace, lambda items: not items, name="chat-epp", timeout=SOON)
    services.ready(kube, namespace, "chat")
