"""Objects as the API server stores, prunes and explains them."""

import pytest

from dev.cluster.kube import Kube, Refused
from tests.support.given import TEMPLATE
from tests.support.specs import as_yaml, changed


def test_times_are_stored_as_written(kube: Kube, namespace: str) -> None:
    times = {"start": "2h", "drain": "15s", "hold": "10m", "idle": "30m", "body": "5m"}
    assert kube.apply(changed("spec.times", times, namespace))["spec"]["times"] == times


def test_limits_output_and_keys_are_stored_as_written(kube: Kube, namespace: str) -> None:
    manifest = changed("metadata.name", "limited", namespace)
    parts = {
        "limits": {
            "maxOutputTokens": 512,
            "maxPromptTokens": 4096,
            "timeout": "90s",
            "concurrency": 8,
            "queue": 0,
        },
        "output": {"schema": '{"type": "object"}', "stop": ["END"], "enforce": True},
        "routing": {"mode": "Direct", "apiKeys": {"name": "keys"}},
    }
    manifest["spec"] |= parts
    stored = kube.apply(manifest)["spec"]
    assert {name: stored[name] for name in parts} == parts


def test_a_valid_object_is_stored_with_the_few_defaults_that_no_profile_decides(
    kube: Kube, namespace: str
) -> None:
    stored = kube.apply(changed("spec.replicas", 1, namespace))
    assert stored["spec"]["scaling"] == {"minReplicas": 1, "maxReplicas": 4, "mode": "Auto"}
    assert "runtime" not in stored["spec"]
    assert stored["status"]["conditions"][0]["type"] == "Ready"
    assert stored["status"]["conditions"][0]["status"] == "Unknown"


def test_where_pods_run_and_what_they_mount_is_stored_as_core_v1_has_it(
    kube: Kube, namespace: str
) -> None:
    stored = kube.apply(changed("spec.template", TEMPLATE, namespace))
    assert stored["spec"]["template"] == TEMPLATE


def test_values_of_engine_arguments_are_stored_as_they_were_written(
    kube: Kube, namespace: str
) -> None:
    arguments = {
        "max-num-seqs": 64,
        "gpu-memory-utilization": 0.85,
        "async-scheduling": True,
        "scheduling-policy": "priority",
        "cudagraph-capture-sizes": [1, 2, 4],
    }
    stored = kube.apply(changed("spec.engineArgs", arguments, namespace))
    assert stored["spec"]["engineArgs"] == arguments


def test_kubectl_stores_them_so_too(kube: Kube, namespace: str) -> None:
    manifest = changed(
        "spec.engineArgs", {"max-num-seqs": 64, "async-scheduling": False}, namespace
    )
    stored = kube.kubectl("apply", "-o", "yaml", "-f", "-", stdin=as_yaml(manifest))
    assert "async-scheduling: false" in stored
    assert "max-num-seqs: 64" in stored


def test_unknown_fields_are_refused_by_strict_validation(kube: Kube, namespace: str) -> None:
    with pytest.raises(Refused, match=r"spec\.quantisation"):
        kube.apply(changed("spec.quantisation", {"method": "fp8"}, namespace))


def test_unknown_fields_are_pruned_otherwise(kube: Kube, namespace: str) -> None:
    manifest = changed("spec.quantisation", {"method": "fp8"}, namespace)
    stored = kube.kubectl(
        "create", "--validate=false", "-o", "yaml", "-f", "-", stdin=as_yaml(manifest)
    )
    assert "quantisation" not in stored


def test_a_fresh_object_is_not_ready_before_anyone_looked(kube: Kube, namespace: str) -> None:
    stored = kube.apply(changed("metadata.name", "fresh", namespace))
    assert {entry["reason"] for entry in stored["status"]["conditions"]} == {"Pending"}


def test_explain_tells_what_the_fields_mean(kube: Kube) -> None:
    told = kube.kubectl("explain", "infer.spec.slo")
    assert "ttft" in told
    assert "Time to first token" in told
    assert "Name of a tier in the ServingProfile" in told
