"""Default limit of memory of GPU pods: far above what a good engine needs, and none where that is unknown."""

from typing import Any

import pytest

from slipstream_operator.api import units
from slipstream_operator.core import memory_limit, resolve, revisions, vllm_versions
from slipstream_operator.core.observed import Observed
from tests.support import given

STATED: dict[str, Any] = {"name": "gpu", "resourceName": "nvidia.com/gpu", "memory": "79Gi"}


def observed(spec: dict[str, Any], accelerator: dict[str, Any] = STATED) -> Observed:
    profile = given.profile(
        accelerators=[accelerator, {"name": "cpu"}],
        engineArgs={"allow": ["*"]},
        sources={"allow": ["*"]},
    )
    return given.observed({"model": given.MODEL, **spec}, profiles=[profile])


def resources(spec: dict[str, Any], accelerator: dict[str, Any] = STATED) -> dict[str, Any]:
    """The resources of the engine container."""
    deployment = given.find(given.rendered(observed(spec, accelerator)), "Deployment")
    found: dict[str, Any] = deployment["spec"]["template"]["spec"]["containers"][0]["resources"]
    return found


def limit(spec: dict[str, Any], accelerator: dict[str, Any] = STATED) -> str | None:
    found: str | None = resources(spec, accelerator).get("limits", {}).get("memory")
    return found


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, "106Gi"),  # 11 requested, 79 of the GPU, 16 to spare
        ({"accelerator": {"count": 8}}, "684Gi"),  # 36 requested, 8 x 79 of the GPUs, 16 to spare
        ({"resources": {"requests": {"memory": "50Gi"}}}, "145Gi"),
        ({"cache": {"offload": {"cpu": "100Gi"}}}, "206Gi"),
    ],
)
def test_a_pod_may_use_its_request_the_memory_of_its_gpus_and_a_spare(
    spec: dict[str, Any], expected: str
) -> None:
    assert limit(spec) == expected


def test_a_limit_of_the_object_or_of_the_profile_stays() -> None:
    own = {"resources": {"limits": {"memory": "30Gi"}}}
    assert limit(own) == "30Gi"
    with_limit = {**STATED, "resources": {"limits": {"memory": "40Gi"}}}
    assert limit({}, with_limit) == "40Gi"
    assert limit(own, with_limit) == "30Gi"


def test_a_profile_that_does_not_state_the_memory_of_its_gpus_gives_no_limit() -> None:
    unstated = {key: value for key, value in STATED.items() if key != "memory"}
    assert limit({}, unstated) is None


def test_a_pod_without_gpus_keeps_the_limits_of_its_profile() -> None:
    assert resolve.resolve(observed({"accelerator": {"type": "cpu"}})).default_memory_limit is None


@pytest.mark.parametrize(
    "spec",
    [
        {"engineArgs": {"cpu-offload-gb": 64}},
        {"engineArgs": {"mm-processor-cache-gb": 64}},
        {"engineArgs": {"safetensors-load-strategy": "eager"}},
        {"model": {**given.MODEL, "load": "Streamed"}},
        {"template": {"volumes": [{"name": "ram", "emptyDir": {"medium": "Memory"}}]}},
    ],
)
def test_a_setting_that_fills_the_pods_memory_leaves_the_limit_to_its_author(
    spec: dict[str, Any],
) -> None:
    assert limit(spec) is None


def test_volumes_in_memory_count_up_to_their_size() -> None:
    volumes = [
        {"name": "ram", "emptyDir": {"medium": "Memory", "sizeLimit": "10Gi"}},
        {"name": "disk", "emptyDir": {}},
    ]
    assert limit({"template": {"volumes": volumes}}) == "116Gi"


def test_the_limit_is_at_least_the_request_whatever_is_set() -> None:
    for spec in ({}, {"resources": {"requests": {"memory": "1Ti"}}}):
        found = resources(spec)
        assert units.quantity(found["limits"]["memory"]) > units.quantity(
            found["requests"]["memory"]
        )


def test_the_limit_is_no_part_of_the_revision() -> None:
    """A newer operator restarts no engine for it."""
    unstated = {key: value for key, value in STATED.items() if key != "memory"}
    found = {
        revisions.identity(resolve.resolve(observed({}, accelerator)).revisioned)
        for accelerator in (STATED, unstated)
    }
    assert len(found) == 1


def test_the_arguments_that_set_memory_of_the_pod_are_arguments_of_the_pinned_vllm() -> None:
    assert set(vllm_versions.PINNED.arguments) >= memory_limit.IN_HOST_MEMORY
