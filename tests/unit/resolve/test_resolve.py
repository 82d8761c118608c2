"""Resolve: every default, and what the object and the profile override."""

from typing import Any

import pytest

from slipstream_operator.core import network
from slipstream_operator.core.prometheus import Server
from slipstream_operator.core.resolved import Resolved
from slipstream_operator.core.routing import Routing
from slipstream_operator.core.scaling.bounds import Bounds
from slipstream_operator.core.times import Times
from tests.support import given

MODEL = given.MODEL


CPU = {"type": "cpu"}


SIMULATED: dict[str, Any] = {"runtime": "simulator"}


def test_a_model_alone_is_a_whole_service() -> None:
    found = given.resolved({"model": MODEL})
    assert found == Resolved(
        key=given.KEY,
        uid=given.UID,
        model_name="chat",
        runtime="vllm",
        accelerator="gpu x 1",
        quantization="auto",
        speculation=None,
        disable_below=None,
        max_length=None,
        adapters=None,
        revisioned=found.revisioned,
        recreate=False,
        bounds=Bounds(1, 1, follows_load=False),
        objectives=found.objectives,
        scale_down_window=120.0,
        prometheus=(Server("http://prometheus.monitoring.svc:9090"), 60.0),
        egress=network.egress(None),
        routing=Routing(limits={"hold": 600, "drain": 300}),
        times=Times(start=3600, drain=300, hold=600, hold_follows_start=True),
        default_requests={"cpu": "3", "memory": "11Gi", "ephemeral-storage": "26Gi"},
        dedicated=True,
        demand=found.demand,
        roofline="accelerator gpu of the ServingProfile states no memoryBandwidth",
        provision_time=900.0,
    )
    assert not found.objectives
    assert found.revisioned == given.revisioned(
        module="slipstream_runtime.engine",
        image="image/vllm:1",
        claims=(),
        token_secret=None,
        resources={"limits": {"nvidia.com/gpu": "1"}, "requests": {"nvidia.com/gpu": "1"}},
        template={},
    )


@pytest.mark.parametrize(
    ("spec", "field", "expected"),
    [
        ({"model": {**MODEL, "name": "Qwen3-8B"}}, "model_name", "Qwen3-8B"),
        ({"model": {**MODEL, "maxLength": 4096}}, "max_length", 4096),
        ({"model": MODEL, "accelerator": {"count": 2}}, "accelerator", "gpu x 2"),
        ({"model": MODEL, "parallelism": {"tensor": 4}}, "accelerator", "gpu x 4"),
        ({"model": MODEL, "parallelism": {"tensor": 2, "data": 3}}, "accelerator", "gpu x 6"),
        ({"model": MODEL, "parallelism": {"tensor": 2, "data": 3}}, "engines", 3),
        ({"model": MODEL, "accelerator": CPU}, "provision_time", 60.0),
        ({"model": MODEL, "accelerator": CPU}, "accelerator", "cpu x 1"),
        ({"model": MODEL, "quantization": {"method": "fp8"}}, "quantization", "fp8"),
        ({"model": MODEL, "speculation": {"method": "ngram"}}, "speculation", "ngram, 4 tokens"),
        (
            {"model": MODEL, "speculation": {"draft": "hf://org/small", "tokens": 2}},
            "speculation",
            "hf://org/small, 2 tokens",
        ),
        (
            {
                "model": MODEL,
                "speculation": {"method": "eagle3", "draft": "hf://org/head", "tokens": 2},
            },
            "speculation",
            "eagle3 hf://org/head, 2 tokens",
        ),
        ({"model": MODEL, "rollout": {"strategy": "Recreate"}}, "recreate", True),
        ({"model": MODEL, "rollout": {}}, "recreate", False),
        (SIMULATED, "runtime", "simulator"),
    ],
)
def test_what_the_object_says_is_taken(spec: dict[str, Any], field: str, expected: object) -> None:
    assert getattr(given.resolved(spec), field) == expected


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"replicas": 3}, Bounds(3, 3, follows_load=False)),
        ({"replicas": 0}, Bounds(0, 0, follows_load=False)),
        ({"scaling": {"maxReplicas": 4}}, Bounds(1, 4, follows_load=True)),
        ({"scaling": {"minReplicas": 2, "maxReplicas": 4}}, Bounds(2, 4, follows_load=True)),
        (
            {"scaling": {"maxReplicas": 4, "paused": True}},
            Bounds(1, 4, follows_load=True, paused=True),
        ),
        (
            {"scaling": {"maxReplicas": 4, "mode": "Recommend"}},
            Bounds(1, 4, follows_load=True, recommend=True),
        ),
    ],
)
def test_bounds_are_replicas_or_those_of_scaling(spec: dict[str, Any], expected: Bounds) -> None:
    assert given.resolved({"model": MODEL, **spec}).bounds == expected


@pytest.mark.parametrize(
    ("profile", "field", "expected"),
    [
        ({"scaling": {"scaleDownWindow": "90s"}}, "scale_down_window", 90.0),
        (
            {"accelerators": [{"name": "gpu", "resourceName": "v/gpu", "provisionTime": "20m"}]},
            "provision_time",
            1200.0,
        ),
        (
            {"prometheus": {"url": "http://p.m.svc/", "window": "15s"}},
            "prometheus",
            (Server("http://p.m.svc"), 15.0),
        ),
        ({"defaultAccelerator": "cpu"}, "accelerator", "cpu x 1"),
    ],
)
def test_what_the_profile_says_is_taken(
    profile: dict[str, Any], field: str, expected: object
) -> None:
    assert getattr(given.resolved(profiles=[given.profile(**profile)]), field) == expected


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, None),
        ({"limits": {"concurrency": 7}, "batching": {"maxSequences": 64}}, 7),
        ({"batching": {"maxSequences": 64}}, 64),
        ({"batching": {"maxSequences": 64}, "parallelism": {"data": 8}}, 512),
    ],
)
def test_the_router_learns_from_engines_what_the_object_does_not_say_of_a_replica(
    spec: dict[str, Any], expected: int | None
) -> None:
    assert given.resolved({"model": MODEL, **spec}).routing.limits.get("concurrency") == expected


def test_without_a_prometheus_nothing_is_measured() -> None:
    assert given.resolved(profiles=[given.profile(without=["prometheus"])]).prometheus is None


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        pytest.param(
            {"accelerator": CPU},
            {"limits": {"memory": "4Gi"}, "requests": {"cpu": "1", "memory": "1Gi"}},
            id="the profile's for the accelerator, and its cores",
        ),
        pytest.param(
            {"accelerator": {**CPU, "count": 3}, "resources": {"limits": {"memory": "9Gi"}}},
            {"limits": {"memory": "9Gi"}, "requests": {"cpu": "3"}},
            id="the object's own win as a whole",
        ),
        pytest.param(
            {"accelerator": CPU, "resources": {"requests": {"cpu": "200m", "memory": "2Gi"}}},
            {"requests": {"cpu": "200m", "memory": "2Gi"}},
            id="cores that were asked for stay",
        ),
        pytest.param(
            {"accelerator": {"count": 2}, "resources": {"limits": {"nvidia.com/gpu": "7"}}},
            {"limits": {"nvidia.com/gpu": "2"}, "requests": {"nvidia.com/gpu": "2"}},
            id="the accelerator is counted by us alone",
        ),
    ],
)
def test_resources(spec: dict[str, Any], expected: dict[str, Any]) -> None:
    assert given.resolved({"model": MODEL, **spec}).revisioned.resources == expected


def test_a_simulator_needs_no_accelerator() -> None:
    assert given.resolved(SIMULATED).revisioned.resources == {
        "limits": {"memory": "256Mi"},
        "requests": {"cpu": "20m", "memory": "64Mi"},
    }


def test_a_cpu_without_resources_in_the_profile_gets_built_in_ones() -> None:
    profile = given.profile(accelerators=[{"name": "cpu"}])
    assert given.resolved(profiles=[profile]).revisioned.resources == {
        "limits": {"memory": "8Gi"},
        "requests": {"cpu": "1", "memory": "4Gi"},
    }


@pytest.mark.parametrize(
    ("spec", "images", "expected"),
    [
        ({"model": MODEL}, {"vllm": "g"}, "g"),
        ({"model": MODEL, "accelerator": CPU}, {"vllmCpu": "c"}, "c"),
        (SIMULATED, {"simulator": "s", "vllmCpu": "c"}, "s"),
        (SIMULATED, {"vllmCpu": "c"}, "c"),
        ({"model": MODEL, "template": {"image": "own"}}, {"vllm": "g"}, "own"),
        ({"model": MODEL, "template": {"image": "own"}}, {}, "own"),
    ],
)
def test_the_image(spec: dict[str, Any], images: dict[str, str], expected: str) -> None:
    found = given.resolved(spec, profiles=[given.profile(images={"router": "r", **images})])
    assert found.revisioned.image == expected


@pytest.mark.parametrize(
    ("uri", "draft", "expected"),
    [
        ("hf://org/model", None, ()),
        ("pvc://weights", None, ("weights",)),
        ("pvc://weights/qwen/8b", "pvc://drafts/qwen", ("drafts", "weights")),
        ("pvc://weights/qwen/8b", "pvc://weights/qwen/1b", ("weights",)),
    ],
)
def test_each_claim_is_mounted_once(uri: str, draft: str | None, expected: tuple[str, ...]) -> None:
    spec: dict[str, Any] = {"model": {"uri": uri}}
    if draft:
        spec["speculation"] = {"draft": draft}
    assert given.resolved(spec).revisioned.claims == expected


def test_claims_of_adapters_are_mounted_too() -> None:
    listed = [{"name": "a", "uri": "pvc://tuned/a"}, {"name": "b", "uri": "pvc://weights/b"}]
    found = given.resolved({"model": {"uri": "pvc://weights/m", "adapters": listed}})
    assert found.revisioned.claims == ("tuned", "weights")
    assert found.adapters == {"a": "pvc://tuned/a", "b": "pvc://weights/b"}


@pytest.mark.parametrize(("count", "slots"), [(0, 4), (1, 4), (4, 4), (5, 8), (9, 16), (32, 32)])
def test_there_are_slots_for_more_adapters_than_are_listed(count: int, slots: int) -> None:
    listed = [{"name": f"a{n}", "uri": "hf://org/a"} for n in range(count)]
    found = given.resolved({"model": {**MODEL, "adapters": listed}})
    assert found.revisioned.config["adapters"] == {"slots": slots}


def test_a_simulator_has_no_adapters() -> None:
    assert given.resolved(SIMULATED).adapters is None


def test_the_users_overrides_are_merged_over_the_accelerators() -> None:
    accelerator = {
        "name": "gpu",
        "nodeSelector": {"zone": "a", "gpu": "h100"},
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
        "runtimeClassName": "nvidia",
    }
    own = {
        "nodeSelector": {"zone": "b"},
        "tolerations": [{"key": "team", "value": "x"}],
        "env": [{"name": "A", "value": "1"}],
        "labels": {"l": "1"},
        "annotations": {"a": "1"},
        "serviceAccountName": "sa",
        "priorityClassName": "high",
        **given.TEMPLATE,
    }
    found = given.resolved(
        {"model": MODEL, "template": own}, profiles=[given.profile(accelerators=[accelerator])]
    )
    assert found.revisioned.template == {
        "nodeSelector": {"zone": "b", "gpu": "h100"},
        "tolerations": [{"key": "gpu", "operator": "Exists"}, {"key": "team", "value": "x"}],
        "runtimeClassName": "nvidia",
        "env": [{"name": "A", "value": "1"}],
        "labels": {"l": "1"},
        "annotations": {"a": "1"},
        "serviceAccountName": "sa",
        "priorityClassName": "high",
        **given.TEMPLATE,
    }


def test_the_runtime_class_of_the_object_wins() -> None:
    profile = given.profile(accelerators=[{"name": "gpu", "runtimeClassName": "nvidia"}])
    found = given.resolved(
        {"model": MODEL, "template": {"runtimeClassName": "own"}}, profiles=[profile]
    )
    assert found.revisioned.template == {"runtimeClassName": "own"}


TIERS = {"interactive": {"ttft": {"p95": "500ms", "p50": "200ms"}, "tpot": {"p95": "40ms"}}}


@pytest.mark.parametrize(
    ("slo", "expected"),
    [
        ({"ttft": {"p95": "1s"}}, {"ttft-p95": 1.0}),
        (
            {"tier": "interactive"},
            {"ttft-p95": 0.5, "ttft-p50": 0.2, "tpot-p95": 0.04},
        ),
        (
            {"tier": "interactive", "ttft": {"p95": "1s", "p99": "3s"}, "e2e": {"p90": "9s"}},
            {"ttft-p99": 3.0, "ttft-p95": 1.0, "ttft-p50": 0.2, "tpot-p95": 0.04, "e2e-p90": 9.0},
        ),
    ],
)
def test_objectives_of_the_object_win_over_the_tiers_one_by_one(
    slo: dict[str, Any], expected: dict[str, float]
) -> None:
    found = given.resolved({"model": MODEL, "slo": slo}, profiles=[given.profile(tiers=TIERS)])
    latency = {objective.name: objective.target for objective in found.objectives.latency}
    assert list(latency.items()) == list(expected.items())  # the strictest of a metric first


def test_a_throughput_is_an_objective() -> None:
    slo = {"throughput": {"outputTokensPerSecond": 900}}
    found = given.resolved({"model": MODEL, "slo": slo})
    assert found.objectives.throughput == 900


def test_a_name_that_is_ones_own_is_not_taken() -> None:
    assert given.resolved(name_holders={"chat": given.KEY}).model_name == "chat"


def test_unknown_keys_are_ignored_since_a_newer_crd_may_carry_them() -> None:
    assert given.resolved({"model": MODEL, "colour": {"hue": "x"}}) == given.resolved()


MIB = 1024 * 1024


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, None),
        ({"model": {**MODEL, "maxLength": 8192}}, MIB),
        ({"model": {**MODEL, "maxLength": 131072}}, 8 * MIB),
        (
            {"model": {**MODEL, "maxLength": 131072}, "limits": {"maxPromptTokens": 32768}},
            2 * MIB,
        ),
        ({"limits": {"maxPromptTokens": 100}}, MIB),
    ],
)
def test_the_router_bounds_the_text_of_a_chat_by_the_context(
    spec: dict[str, Any], expected: int | None
) -> None:
    assert given.resolved({"model": MODEL, **spec}).routing.limits.get("maxText") == expected
