"""Kinds of devices, each as a value with its resource names, its images and the features that it lacks.

A new kind of device is a value in this file, and a field of ServingProfile's `images` if it needs its own image.
"""

import dataclasses
import enum
import re
from collections.abc import Mapping
from typing import Final

from slipstream_operator.api import pod
from slipstream_operator.api.servingprofile import Accelerator


class Feature(enum.Enum):
    """Feature of an engine that not every device has."""

    SPLIT = enum.auto()
    """Several devices, or processes, of one pod."""
    OFFLOAD = enum.auto()
    """KV cache blocks that leave the device's memory."""
    FP8_KV_CACHE = enum.auto()
    NVFP4 = enum.auto()
    EXPERT_BALANCING = enum.auto()
    TENSORRT = enum.auto()


@dataclasses.dataclass(frozen=True)
class Device:
    """Kind of device, and everything that the operator decides by it."""

    name: str
    """Value of `device` in an engine's configuration."""
    title: str
    """Name in messages, in the plural."""
    accelerator: str | None = None
    """Name of the profile's accelerator that always means this device."""
    domains: frozenset[str] = frozenset()
    """Domains of its extended resources, and names of its DeviceClasses."""
    resources: re.Pattern[str] | None = None
    """Its extended resources, where a domain has resources of other kinds, too."""
    supported: bool = True
    """Whether an image of an engine exists for it."""
    dedicated: bool = True
    """Whether devices with their own memory are assigned to a replica. Otherwise the count means cores of the node."""
    slices: re.Pattern[str] | None = None
    """Extended resources and DeviceClasses of parts of a device, of which one process uses only one."""
    slices_reason: str = ""
    images: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Runtime -> field of ServingProfile's `images`, where it differs from the runtime's own."""
    lacks: Mapping[Feature, str] = dataclasses.field(default_factory=dict)
    """Feature that engines don't have on it -> the reason, as the end of a sentence."""
    backends: tuple[str, ...] = ()
    """vLLM's attention backends on it; empty where vLLM checks the name itself."""
    compiles: bool = True
    """Whether vLLM compiles models on it unless the object says otherwise."""
    default_resources: pod.Resources | None = None
    """Requests and limits of the engine container where neither the object nor the profile names any."""
    provision_seconds: float = 900.0
    """Seconds within which a new node may join for a pod. Autoscalers take 2 to 10 minutes for a GPU node."""

    def owns(self, name: str) -> bool:
        """Whether an extended resource or a DeviceClass of this name gives this device."""
        if self.resources is not None and self.resources.match(name):
            return True
        return name.partition("/")[0].lower() in self.domains

    def single(self, accelerator: Accelerator) -> str | None:
        """Return why a replica can have only one device of this accelerator; None if it can have several."""
        names = (accelerator.resource_name or "", accelerator.device_class or "")
        if self.slices is not None and any(self.slices.search(name) for name in names):
            return self.slices_reason
        if accelerator.memory_share is not None:
            return "several engines share each device, so two of them could be the same device"
        return None


CPU: Final = Device(
    name="cpu",
    title="CPUs",
    accelerator="cpu",
    dedicated=False,
    images={"vllm": "vllm_cpu"},
    lacks={
        Feature.SPLIT: "an engine on type cpu is one process",
        Feature.OFFLOAD: "on type cpu the KV cache is in the node's memory already",
        Feature.FP8_KV_CACHE: "it needs AVX-512 or AMX on type cpu, and nodes may have neither",
        Feature.NVFP4: "vLLM has no NVFP4 kernel for type cpu",
        Feature.EXPERT_BALANCING: "vLLM does not balance experts on type cpu",
        Feature.TENSORRT: "TensorRT does not run on type cpu",
    },
    backends=("CPU_ATTN", "CPU_MLA", "AMX_MLA"),
    compiles=False,
    default_resources=pod.Resources(requests={"memory": "4Gi"}, limits={"memory": "8Gi"}),
    provision_seconds=60.0,
)
CUDA: Final = Device(
    name="cuda",
    title="NVIDIA GPUs",
    # Other resources of nvidia.com/ are network devices.
    resources=re.compile(r"nvidia\.com/(gpu|mig-)"),
    slices=re.compile(r"(^|[/.-])mig([.-]|$)"),
    slices_reason="CUDA sees only one MIG slice in a process, and NCCL connects none",
)


def _unsupported(name: str, title: str, *domains: str) -> Device:
    return Device(name=name, title=title, domains=frozenset(domains), supported=False)


DEVICES: Final[dict[str, Device]] = {
    device.name: device
    for device in (
        CPU,
        CUDA,
        _unsupported("rocm", "AMD GPUs", "amd.com", "gpu.amd.com"),
        _unsupported("neuron", "AWS Neuron", "aws.amazon.com", "neuron.aws.com"),
        _unsupported("mlu", "Cambricon MLUs", "cambricon.com"),
        _unsupported("tpu", "Google TPUs", "cloud-tpus.google.com", "google.com", "tpu.google.com"),
        _unsupported("hpu", "Intel Gaudi", "gaudi.intel.com", "habana.ai"),
        _unsupported("xpu", "Intel GPUs", "gpu.intel.com"),
        _unsupported("npu", "Intel NPUs", "npu.intel.com"),
        _unsupported("ascend", "Huawei Ascend", "huawei.com"),
        _unsupported("musa", "Moore Threads GPUs", "mthreads.com"),
        _unsupported("qaic", "Qualcomm Cloud AI", "qualcomm.com"),
    )
}
"""Name -> device. Accelerators whose device isn't recognized are taken for NVIDIA GPUs."""


def owner(name: str) -> Device | None:
    """Return the device that an extended resource or a DeviceClass gives; None if it is of no known kind."""
    return next((device for device in DEVICES.values() if device.owns(name)), None)


def named(accelerator: str) -> Device | None:
    """Return the device that an accelerator has by its name alone, as cpu does."""
    return next((one for one in DEVICES.values() if one.accelerator == accelerator), None)


def of(accelerator: Accelerator) -> Device:
    """Return the device of an accelerator: by its name, or else by its resource or DeviceClass."""
    if (device := named(accelerator.name)) is not None:
        return device
    return owner(accelerator.resource_name or accelerator.device_class or "") or CUDA


def supported() -> str:
    """Return the devices that engines run on, in words."""
    known = [one for one in DEVICES.values() if one.supported]
    titles = [one.title for one in sorted(known, key=lambda one: not one.dedicated)]
    return f"{', '.join(titles[:-1])} and {titles[-1]}"
