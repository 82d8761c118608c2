"""Objects with runtime onnx that the API server stores or refuses."""

from typing import Any

import pytest

from dev.cluster.kube import Kube, Refused
from tests.support.specs import changed

ONNX: dict[str, Any] = {
    "model": {"uri": "file:///models/minilm"},
    "runtime": "onnx",
    "cache": {"compile": True},
    "batching": {"maxSequences": 8},
    "slo": {"e2e": {"p95": "200ms"}},
}

REFUSED_WITH_ONNX = [
    ("speculation", {"method": "ngram"}, "speculation can't be used with runtime: onnx"),
    ("output", {"stop": ["a"]}, "output can't be used with runtime: onnx"),
    ("attention", {"slidingWindow": 64}, "attention can't be used with runtime: onnx"),
    ("parallelism", {"tensor": 2}, "parallelism can't be used with runtime: onnx"),
    ("limits", {"maxOutputTokens": 8}, "limits.maxOutputTokens, maxAnswers"),
    ("limits", {"maxTools": 8}, "maxTools and maxMedia can't be used with runtime: onnx"),
    (
        "model",
        {**ONNX["model"], "adapters": []},
        "model.adapters and model.maxAdapterRank can't be used with runtime: onnx",
    ),
    ("quantization", {"method": "fp8"}, "quantization can't be used with runtime: onnx"),
    ("quantization", {"kvCache": "fp8"}, "quantization can't be used with runtime: onnx"),
    ("slo", {"ttft": {"p95": "1s"}}, "Use slo.e2e, such as {p95: 200ms}."),
    ("slo", {"throughput": {"outputTokensPerSecond": 9}}, "Use slo.e2e, such as {p95: 200ms}."),
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
    manifest = changed("metadata.name", "onnx", namespace)
    manifest["spec"] = {**ONNX, **spec}
    return manifest


def test_a_service_with_runtime_onnx_is_valid(kube: Kube, namespace: str) -> None:
    limits = {"maxPromptTokens": 128, "timeout": "5s", "concurrency": 4, "queue": 0}
    keys = {"apiKeys": {"name": "keys"}}
    kube.apply(_onnx(namespace, quantization={"method": "auto"}, limits=limits, routing=keys))


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
