"""Accelerators of other makers are refused, not taken for NVIDIA's."""

from typing import Any

import pytest

from slipstream_operator.errors import PermanentError
from slipstream_operator.names import Reason
from tests import given


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
