"""Accelerators that engines can run on: NVIDIA's by CUDA, and CPUs."""

import re
from collections.abc import Iterator, Mapping
from typing import Final

from slipstream_operator.api import pod
from slipstream_operator.api.inferenceservice import InferenceServiceSpec
from slipstream_operator.api.servingprofile import Accelerator, ServingProfileSpec
from slipstream_operator.errors import PermanentError
from slipstream_operator.names import Reason

_OTHERS: Final[Mapping[str, str]] = {
    "amd.com": "AMD GPUs",
    "aws.amazon.com": "AWS Neuron",
    "cambricon.com": "Cambricon MLUs",
    "cloud-tpus.google.com": "Google TPUs",
    "gaudi.intel.com": "Intel Gaudi",
    "google.com": "Google TPUs",
    "gpu.amd.com": "AMD GPUs",
    "gpu.intel.com": "Intel GPUs",
    "habana.ai": "Intel Gaudi",
    "huawei.com": "Huawei Ascend",
    "mthreads.com": "Moore Threads GPUs",
    "neuron.aws.com": "AWS Neuron",
    "npu.intel.com": "Intel NPUs",
    "qualcomm.com": "Qualcomm Cloud AI",
    "tpu.google.com": "Google TPUs",
}
"""Domains of extended resources and names of DeviceClasses whose devices run no CUDA."""

_NVIDIA: Final = re.compile(r"nvidia\.com/(gpu|mig-)")
"""Extended resources of NVIDIA's device plugin that are GPUs; nvidia.com/ has network devices, too."""

_MIG: Final = re.compile(r"(^|[/.-])mig([.-]|$)")
"""Extended resources and DeviceClasses of MIG slices."""


def check(accelerator: Accelerator, *, profile: str) -> None:
    """Refuse an accelerator that CUDA doesn't run on, since its pods could only fail."""
    given = [("resourceName", accelerator.resource_name), ("deviceClass", accelerator.device_class)]
    given += [("resources", name) for name in _resources(accelerator.resources)]
    for field, value in given:
        kind = _OTHERS.get(_domain(value or ""))
        if kind is not None:
            raise PermanentError(
                Reason.UNSUPPORTED,
                f'spec.accelerator.type: "{accelerator.name}" can\'t work because {field} {value} in ServingProfile '
                f"{profile} means {kind}, and engines run on NVIDIA GPUs and CPUs only. Use one of these.",
            )


def single(accelerator: Accelerator) -> str | None:
    """Return why a replica can have only one of these devices; None if it can have several."""
    names = (accelerator.resource_name or "", accelerator.device_class or "")
    if any(_MIG.search(name) for name in names):
        return "CUDA sees only one MIG slice in a process, and NCCL connects none"
    if accelerator.memory_share is not None:
        return "engines share these devices, so that two of them may be one and the same"
    return None


def check_count(spec: InferenceServiceSpec, accelerator: Accelerator, count: int) -> None:
    """Refuse several devices for a replica where an engine can use only one."""
    reason = single(accelerator)
    if reason is None or count == 1:
        return
    named = spec.accelerator is not None and "count" in spec.accelerator.model_fields_set
    field = f"spec.accelerator.count: {count}" if named else f"spec.parallelism: {count} devices"
    raise PermanentError(
        Reason.UNSUPPORTED,
        f"{field} can't work because devices of {accelerator.name} can't be combined: {reason}. Use one, and more "
        "replicas, or an accelerator that is a whole GPU.",
    )


def check_requests(
    spec: InferenceServiceSpec, accelerator: Accelerator, profile: ServingProfileSpec
) -> None:
    """Refuse accelerators that are requested past spec.accelerator, which neither bounds nor quotas would count."""
    known = {entry.resource_name for entry in profile.accelerators}
    for field, name in _requested(spec):
        if field == "spec.resources" and name == accelerator.resource_name and _counts(spec):
            continue  # spec.accelerator.count replaces it
        if name in known or _NVIDIA.match(name) or _domain(name) in _OTHERS:
            raise PermanentError(
                Reason.UNSUPPORTED,
                f'{field}: "{name}" can\'t work because only spec.accelerator asks for accelerators, and quotas count '
                "them there. Use spec.accelerator.type and spec.accelerator.count.",
            )


def _counts(spec: InferenceServiceSpec) -> bool:
    return spec.runtime != "simulator"


def _requested(spec: InferenceServiceSpec) -> Iterator[tuple[str, str]]:
    """Yield each resource that the object names, with the field that holds it."""
    for name in _resources(spec.resources):
        yield "spec.resources", name
    for container in (spec.template and spec.template.init_containers) or []:
        for name in _resources(container.resources):
            yield f"spec.template.initContainers[{container.name}].resources", name


def _resources(resources: pod.Resources | None) -> list[str]:
    if resources is None:
        return []
    return sorted({*(resources.limits or {}), *(resources.requests or {})})


def _domain(name: str) -> str:
    return name.partition("/")[0].lower()
