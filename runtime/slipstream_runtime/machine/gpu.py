"""Check of the node's NVIDIA driver and GPUs, before any library that needs them is imported.

Libraries explain a missing or old driver poorly, and only after minutes of download.
"""

import ctypes
from dataclasses import dataclass
from typing import Final

from slipstream_runtime.errors import UnsuitableError

CUDA: Final = (13, 0)
"""CUDA release that the image's libraries are built with."""
DRIVER: Final = 580
"""First branch of NVIDIA's driver that supports that release."""
OLDEST: Final = (7, 5)
"""Compute capability of the oldest GPUs that CUDA 13 supports: Turing, such as T4."""
_LIBRARY: Final = "libcuda.so.1"
_NOT_FOUND: Final = (
    "The NVIDIA driver does not reach the container ({detail}). The device plugin or NVIDIA's "
    "container toolkit must mount it; where a RuntimeClass does that, set runtimeClassName of the "
    "accelerator in the ServingProfile."
)
_CODES: Final = {
    100: "the driver sees no GPU in this container: does the pod ask for one, by accelerators[].resourceName of the "
    "ServingProfile?",
    802: "the node's NVSwitch is not ready: NVIDIA's fabric manager must run on the node, in the driver's version",
    803: "the driver's library and its kernel module have different versions: restart the node after a driver update",
    804: "CUDA's compatibility package is for data center GPUs only: take it out of LD_LIBRARY_PATH",
}
"""Error code of CUDA's driver API -> cause and remedy, where an administrator of the cluster can act on it."""


@dataclass(frozen=True)
class Gpu:
    """GPU that the driver reports."""

    name: str
    capability: tuple[int, int]


@dataclass(frozen=True)
class Driver:
    """State that the driver reports; `code` is its error, 0 for none."""

    cuda: tuple[int, int]
    code: int = 0
    gpus: tuple[Gpu, ...] = ()

    @property
    def capability(self) -> tuple[int, int] | None:
        """Lowest compute capability of the GPUs; None without GPUs."""
        return min((gpu.capability for gpu in self.gpus), default=None)


def refusal(driver: Driver) -> str | None:
    """Return why this image can't run on the node; None if it can."""
    if driver.cuda < CUDA:
        return (
            f"The node's NVIDIA driver runs CUDA {_dotted(driver.cuda)} at most, and this image needs "
            f"{_dotted(CUDA)}. Use nodes with driver {DRIVER} or newer."
        )
    if driver.code != 0:
        cause = _CODES.get(driver.code, f"error {driver.code} of its API")
        return f"The node's NVIDIA driver can't be used: {cause}."
    if not driver.gpus:
        return f"The node's NVIDIA driver can't be used: {_CODES[100]}."
    for gpu in driver.gpus:
        if gpu.capability < OLDEST:
            return (
                f"{gpu.name} has compute capability {_dotted(gpu.capability)}, and this image needs "
                f"{_dotted(OLDEST)} or newer, such as T4, A100, L4 or H100. Use other nodes."
            )
    return None


def check() -> Driver:
    """Return the node's driver; UnsuitableError, with what to do, if the node can't run this image."""
    driver = ask()
    if reason := refusal(driver):
        raise UnsuitableError(reason)
    return driver


def ask(library: str = _LIBRARY) -> Driver:
    """Return what the driver's library reports; nothing is allocated on a GPU."""
    try:
        cuda = ctypes.CDLL(library)
    except OSError as error:
        raise UnsuitableError(_NOT_FOUND.format(detail=error)) from error
    version = ctypes.c_int()
    code = cuda.cuDriverGetVersion(ctypes.byref(version)) or cuda.cuInit(0)
    found = (version.value // 1000, version.value % 1000 // 10)
    count = ctypes.c_int()
    code = code or cuda.cuDeviceGetCount(ctypes.byref(count))
    if code != 0:
        return Driver(found, code=code)
    return Driver(found, gpus=tuple(_gpu(cuda, number) for number in range(count.value)))


def _gpu(cuda: ctypes.CDLL, number: int) -> Gpu:
    device, name = ctypes.c_int(), ctypes.create_string_buffer(256)
    cuda.cuDeviceGet(ctypes.byref(device), number)
    cuda.cuDeviceGetName(name, len(name), device)
    return Gpu(
        name=name.value.decode(errors="replace"),
        capability=(_attribute(cuda, 75, device), _attribute(cuda, 76, device)),
    )


def _attribute(cuda: ctypes.CDLL, attribute: int, device: ctypes.c_int) -> int:
    value = ctypes.c_int()
    cuda.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
    return value.value


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"
