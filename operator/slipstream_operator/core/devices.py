"""Accelerators that engines can run on: NVIDIA's by CUDA, and CPUs."""

from collections.abc import Mapping
from typing import Final

from slipstream_operator.api.servingprofile import Accelerator
from slipstream_operator.errors import PermanentError
from slipstream_operator.names import Reason

_OTHERS: Final[Mapping[str, str]] = {
    "amd.com": "AMD GPUs",
    "aws.amazon.com": "AWS Neuron",
    "cloud-tpus.google.com": "Google TPUs",
    "gaudi.intel.com": "Intel Gaudi",
    "google.com": "Google TPUs",
    "gpu.amd.com": "AMD GPUs",
    "gpu.intel.com": "Intel GPUs",
    "habana.ai": "Intel Gaudi",
    "huawei.com": "Huawei Ascend",
    "neuron.aws.com": "AWS Neuron",
    "tpu.google.com": "Google TPUs",
}
"""Domains of extended resources and names of DeviceClasses whose devices run no CUDA."""


def check(accelerator: Accelerator, *, profile: str) -> None:
    """Refuse an accelerator that CUDA doesn't run on, since its pods could only fail."""
    given = {"resourceName": accelerator.resource_name, "deviceClass": accelerator.device_class}
    for field, value in given.items():
        kind = _OTHERS.get((value or "").partition("/")[0])
        if kind is not None:
            raise PermanentError(
                Reason.UNSUPPORTED,
                f'spec.accelerator.type: "{accelerator.name}" can\'t work because {field} {value} in ServingProfile '
                f"{profile} means {kind}, and engines run on NVIDIA GPUs and CPUs only. Use one of these.",
            )
