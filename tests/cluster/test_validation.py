"""The API server refuses what can't work, in words that name the field, the value and the remedy."""

import copy
from typing import Any

import pytest

from dev.kube import Kube, Refused

VALID: dict[str, Any] = {
    "apiVersion": "slipstream.dev/v1alpha1",
    "kind": "InferenceService",
    "metadata": {"name": "valid"},
    "spec": {
        "model": {"uri": "file:///models/target"},
        "slo": {"ttft": {"p50": "100ms", "p95": "500ms"}},
        "scaling": {"minReplicas": 1, "maxReplicas": 4},
    },
}

REFUSED = [
    ("metadata.name", "Upper", "Upper"),
    ("metadata.name", "a" * 41, "at most 40"),
    ("metadata.name", "with.dot", "put a longer name, or one with dots, into spec.model.name"),
    ("metadata.name", "slipstream-chat", "choose another"),
    (
        "spec.model.uri",
        "http://host/model",
        '"http://host/model" is not a model source: write hf://org/name[@revision]',
    ),
    ("spec.model.uri", "file:///models/../etc", "is not a model source"),
    ("spec.model.maxLength", 8, "should be greater than or equal to 16"),
    ("spec.slo.ttft.p95", "fast", '"fast" is not a duration: write for example 500ms, 2s or 1h30m'),
    ("spec.slo.ttft.p95", "0ms", '"0ms" must be more than zero'),
    (
        "spec.slo.ttft.p95",
        "50ms",
        "p50 (100ms) must not be more than p95 (50ms): raise p95 or lower p50",
    ),
    ("spec.slo.ttft", {}, "needs at least one of p50, p90, p95 and p99"),
    ("spec.slo", {}, "needs at least one of tier, ttft, tpot, e2e and throughput"),
    ("spec.slo.throughput", {"outputTokensPerSecond": 0}, "greater than or equal to 1"),
    ("spec.scaling.maxReplicas", 0, "should be greater than or equal to 1"),
    (
        "spec.scaling",
        {"minReplicas": 3, "maxReplicas": 2},
        "maxReplicas (2) must not be less than minReplicas (3)",
    ),
    ("spec.scaling.minReplicas", 0, "should be greater than or equal to 1"),
    ("spec.replicas", 2, "replicas (2) can't be set together with scaling"),
    ("spec.speculation", {"tokens": 4}, "exactly one of draft (a draft model) and method (ngram)"),
    (
        "spec.speculation",
        {"draft": "file:///models/draft", "method": "ngram"},
        "exactly one of draft (a draft model) and method (ngram)",
    ),
    ("spec.quantization.method", "int3", 'supported values: "none", "auto", "fp8"'),
    ("spec.simulator", {"alpha": "7ms"}, "simulator needs runtime: simulator"),
    ("spec.runtime", "simulator", "model can't be used with runtime: simulator"),
    ("spec.model", None, "model is needed: give model.uri"),
    ("spec.resources.limits.memory", "lots", '"lots" is not a quantity above zero'),
    ("spec.accelerator.count", 0, "should be greater than or equal to 1"),
]


@pytest.mark.parametrize(
    ("field", "value", "message"), REFUSED, ids=[f"{field}={value}" for field, value, _ in REFUSED]
)
def test_what_cannot_work_is_refused(
    kube: Kube, namespace: str, field: str, value: Any, message: str
) -> None:
    with pytest.raises(Refused) as refusal:
        kube.apply(_with(field, value, namespace))
    assert message in refusal.value.message
    assert field.rsplit(".", 1)[0].removesuffix(".maxReplicas") in refusal.value.message


ONNX: dict[str, Any] = {
    "model": {"uri": "file:///models/minilm"},
    "runtime": "onnx",
    "cache": {"compile": True},
    "batching": {"maxSequences": 8},
    "slo": {"e2e": {"p95": "200ms"}},
}

REFUSED_WITH_ONNX = [
    ("speculation", {"method": "ngram"}, "speculation can't be used with runtime: onnx"),
    ("quantization", {"method": "fp8"}, "quantization can't be used with runtime: onnx"),
    ("quantization", {"kvCache": "fp8"}, "quantization can't be used with runtime: onnx"),
    ("slo", {"ttft": {"p95": "1s"}}, "use slo.e2e, such as {p95: 200ms}"),
    ("slo", {"throughput": {"outputTokensPerSecond": 9}}, "use slo.e2e, such as {p95: 200ms}"),
    ("cache", {"prefix": True}, "cache.prefix can't be used with runtime: onnx"),
    (
        "batching",
        {"policy": "priority"},
        "batching.chunkedPrefill and batching.policy can't be used",
    ),
    (
        "model",
        {**ONNX["model"], "trustRemoteCode": True},
        "model.trustRemoteCode can't be used with runtime: onnx",
    ),
]


def _onnx(namespace: str, **spec: Any) -> dict[str, Any]:
    manifest = _with("metadata.name", "onnx", namespace)
    manifest["spec"] = {**ONNX, **spec}
    return manifest


def test_a_service_with_runtime_onnx_is_valid(kube: Kube, namespace: str) -> None:
    kube.apply(_onnx(namespace, quantization={"method": "auto"}))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    REFUSED_WITH_ONNX,
    ids=[f"{field}={value}" for field, value, _ in REFUSED_WITH_ONNX],
)
def test_what_onnx_runtime_cannot_do_is_refused(
    kube: Kube, namespace: str, field: str, value: Any, message: str
) -> None:
    with pytest.raises(Refused) as refusal:
        kube.apply(_onnx(namespace, **{field: value}))
    assert message in refusal.value.message
    assert f"spec.{field}" in refusal.value.message


def test_a_valid_object_is_stored_with_the_few_defaults_that_no_profile_decides(
    kube: Kube, namespace: str
) -> None:
    stored = kube.apply(_with("spec.replicas", 1, namespace))
    assert stored["spec"]["scaling"] == {"minReplicas": 1, "maxReplicas": 4, "mode": "Auto"}
    assert "runtime" not in stored["spec"]
    assert stored["status"]["conditions"][0]["type"] == "Ready"
    assert stored["status"]["conditions"][0]["status"] == "Unknown"


def test_unknown_fields_are_refused_by_strict_validation(kube: Kube, namespace: str) -> None:
    with pytest.raises(Refused, match=r"spec\.quantisation"):
        kube.apply(_with("spec.quantisation", {"method": "fp8"}, namespace))


def test_unknown_fields_are_pruned_otherwise(kube: Kube, namespace: str) -> None:
    manifest = _with("spec.quantisation", {"method": "fp8"}, namespace)
    stored = kube.kubectl(
        "create", "--validate=false", "-o", "yaml", "-f", "-", stdin=_yaml(manifest)
    )
    assert "quantisation" not in stored


def test_a_fresh_object_is_not_ready_before_anyone_looked(kube: Kube, namespace: str) -> None:
    stored = kube.apply(_with("metadata.name", "fresh", namespace))
    assert {entry["reason"] for entry in stored["status"]["conditions"]} == {"Pending"}


def test_explain_tells_what_the_fields_mean(kube: Kube) -> None:
    told = kube.kubectl("explain", "infer.spec.slo")
    assert "ttft" in told
    assert "Time to first token" in told
    assert "Objectives of this name in the ServingProfile" in told


def _with(field: str, value: Any, namespace: str) -> dict[str, Any]:
    """VALID with one field set, or removed if the value is None."""
    manifest = copy.deepcopy(VALID)
    manifest["metadata"]["namespace"] = namespace
    *path, last = field.split(".")
    node = manifest
    for name in path:
        node = node.setdefault(name, {})
    if value is None:
        del node[last]
    else:
        node[last] = value
    return manifest


def _yaml(manifest: dict[str, Any]) -> str:
    import yaml

    return yaml.safe_dump(manifest)
