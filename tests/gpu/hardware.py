"""GPUs that the contract is checked for, as data; one of each compute capability and kind."""

import dataclasses
from typing import Final

GIB: Final = 2**30


@dataclasses.dataclass(frozen=True)
class Gpu:
    """A GPU as its driver describes it."""

    key: str
    name: str
    """Product name that NVML reports."""
    capability: tuple[int, int]
    architecture: str
    """nvcc's name of the code that the kernels are compiled to."""
    memory: int
    """Bytes that NVML reports; a little less than the data sheet's."""
    processors: int
    """Streaming multiprocessors."""
    shared_memory: int
    """Bytes of shared memory that a block can opt in to."""

    @property
    def variables(self) -> dict[str, str]:
        """Environment variables that libcuda.c and libnvml.c read; a node has eight of them."""
        return {
            "FAKE_GPU_NAME": self.name,
            "FAKE_GPU_CAPABILITY": "{}.{}".format(*self.capability),
            "FAKE_GPU_MEMORY": str(self.memory),
            "FAKE_GPU_PROCESSORS": str(self.processors),
            "FAKE_GPU_SHARED_MEMORY": str(self.shared_memory),
            "FAKE_GPU_COUNT": "8",
        }


GPUS: Final = (
    Gpu("T4", "Tesla T4", (7, 5), "sm_75", 15 * GIB, 40, 65_536),
    Gpu("A100", "NVIDIA A100-SXM4-80GB", (8, 0), "sm_80", 80 * GIB, 108, 166_912),
    Gpu("L4", "NVIDIA L4", (8, 9), "sm_89", 22 * GIB, 58, 101_376),
    Gpu("H100", "NVIDIA H100 80GB HBM3", (9, 0), "sm_90a", 80 * GIB, 132, 232_448),
    Gpu("H200", "NVIDIA H200", (9, 0), "sm_90a", 140 * GIB, 132, 232_448),
    Gpu("MIG", "NVIDIA H100 80GB HBM3 MIG 1g.10gb", (9, 0), "sm_90a", 10 * GIB, 16, 232_448),
    Gpu("B200", "NVIDIA B200", (10, 0), "sm_100a", 178 * GIB, 148, 232_448),
)
BY_KEY: Final = {gpu.key: gpu for gpu in GPUS}


def generations() -> list[list[Gpu]]:
    """GPUs by compute capability: those of one can share a process that has imported vLLM."""
    found: dict[tuple[int, int], list[Gpu]] = {}
    for gpu in GPUS:
        found.setdefault(gpu.capability, []).append(gpu)
    return list(found.values())
