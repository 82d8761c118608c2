"""Accelerators of other makers are refused, not taken for NVIDIA's."""

from typing import Any

import pytest

from slipstream_operator.errors import PermanentError
from slipstream_operator.names import Reason
from tests.support import given


def accelerators(**fields: str) -> list[dict[str, Any]]:
    return [{"name": "mi300", **fields}]


@pytest.mark.parametrize(
    ("field", "value", "kind"),
    [
        ("resourceName", "amd.com/gpu", "AMD GPUs"),
        ("resourceName", "google.com/tpu", "Google TPUs"),
        ("resourceName", "habana.ai/gaudi", "Intel Gaudi"),
        ("resourceName", "gpu.intel.com/xe", "Intel GPUs"),
        ("resourceName", "aws.amazon.com/neuron", "AWS Neuron"),
        ("deviceClass", "gpu.amd.com", "AMD GPUs"),
        ("deviceClass", "gaudi.intel.com", "Intel Gaudi"),
    ],
)
def test_other_accelerators_are_told_as_not_supported(field: str, value: str, kind: str) -> None:
    profile = given.profile(
        accelerators=accelerators(**{field: value}), without=["defaultAccelerator"]
    )
    with pytest.raises(PermanentError) as caught:
        given.resolved({"model": given.MODEL}, profiles=[profile])
    assert caught.value.reason is Reason.UNSUPPORTED
    assert f"{field} {value} in ServingProfile default means {kind}" in caught.value.message


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("resourceName", "nvidia.com/gpu"),
        ("resourceName", "nvidia.com/mig-1g.10gb"),
        ("resourceName", "nvidia.com/gpu.shared"),
        ("resourceName", "volcano.sh/vgpu-number"),
        ("deviceClass", "gpu.nvidia.com"),
    ],
)
def test_every_name_under_which_nvidias_come_is_taken(field: str, value: str) -> None:
    profile = given.profile(
        accelerators=accelerators(**{field: value}), without=["defaultAccelerator"]
    )
    assert given.resolved({"model": given.MODEL}, profiles=[profile]).accelerator == "mi300 x 1"


def test_a_simulated_service_uses_no_device() -> None:
    profile = given.profile(
        accelerators=accelerators(resourceName="amd.com/gpu"), without=["defaultAccelerator"]
    )
    assert given.resolved({"runtime": "simulator"}, profiles=[profile]).runtime == "simulator"


def test_a_resource_of_another_maker_is_found_among_the_accelerators_resources() -> None:
    entry = {"name": "mi300", "resources": {"limits": {"amd.com/gpu": "1"}}}
    profile = given.profile(accelerators=[entry], without=["defaultAccelerator"])
    with pytest.raises(PermanentError, match=r"resources amd.com/gpu .* means AMD GPUs"):
        given.resolved({"model": given.MODEL}, profiles=[profile])


MIXED: Any = [
    {"name": "cpu"},
    {"name": "slice", "resourceName": "nvidia.com/mig-1g.10gb"},
    {"name": "renamed", "resourceName": "example.com/gpu"},
]


@pytest.mark.parametrize(
    "spec",
    [
        {"accelerator": {"type": "cpu"}, "resources": {"limits": {"nvidia.com/gpu": "8", "memory": "8Gi"}}},
        {"accelerator": {"type": "slice"}, "resources": {"requests": {"nvidia.com/gpu": "8"}}},
        {"accelerator": {"type": "slice"}, "resources": {"limits": {"example.com/gpu": "8"}}},
        {"accelerator": {"type": "slice"}, "resources": {"limits": {"amd.com/gpu": "8"}}},
        {"runtime": "simulator", "model": None, "accelerator": {"type": "slice"},
         "resources": {"limits": {"nvidia.com/mig-1g.10gb": "8"}}},
        {"accelerator": {"type": "slice"}, "template": {"initContainers": [
            {"name": "warm", "image": "image/warm:1", "resources": {"limits": {"nvidia.com/mig-1g.10gb": "8"}}}]}},
    ],
)  # fmt: skip
def test_accelerators_are_not_to_be_had_past_the_count_that_quotas_see(spec: Any) -> None:
    profile = given.profile(accelerators=MIXED, without=["defaultAccelerator"])
    with pytest.raises(
        PermanentError, match=r"only spec.accelerator asks for accelerators"
    ) as found:
        given.resolved({"model": given.MODEL, **spec}, profiles=[profile])
    assert found.value.reason is Reason.UNSUPPORTED


def test_other_devices_beside_the_accelerator_are_free_to_ask_for() -> None:
    profile = given.profile(accelerators=MIXED, without=["defaultAccelerator"])
    asked = {"limits": {"rdma/hca": "1", "nvidia.com/hostdev": "1"}}
    spec = {"model": given.MODEL, "accelerator": {"type": "slice"}, "resources": asked}
    found = given.resolved(spec, profiles=[profile]).revisioned.resources["limits"]
    assert found == {"nvidia.com/mig-1g.10gb": "1", "rdma/hca": "1", "nvidia.com/hostdev": "1"}


@pytest.mark.parametrize(
    "device",
    [
        {"resourceName": "nvidia.com/mig-1g.10gb"},
        {"deviceClass": "mig.nvidia.com"},
        {"resourceName": "nvidia.com/gpu.shared", "memoryShare": "50%"},
    ],
)
@pytest.mark.parametrize(
    "spec", [{"accelerator": {"count": 2}}, {"parallelism": {"data": 2}}, {"parallelism": {"tensor": 2}}]
)  # fmt: skip
def test_parts_of_gpus_are_not_combined_for_one_replica(device: Any, spec: Any) -> None:
    profile = given.profile(
        accelerators=[{"name": "part", **device}], without=["defaultAccelerator"]
    )
    with pytest.raises(PermanentError, match=r"devices of part can't be combined"):
        given.resolved({"model": given.MODEL, **spec}, profiles=[profile])
    assert given.resolved({"model": given.MODEL}, profiles=[profile]).accelerator == "part x 1"
