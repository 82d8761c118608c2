"""A GPU that PyTorch believes in: the driver's answers that libcuda.c can't give, from FAKE_GPU_* in Python.

vLLM's own detection of the platform stays as it is: it asks libnvml.c. Nothing computes.
"""

import types
from typing import Any

from tests.gpu.hardware import Gpu


class _Nothing:
    """A stream or an event, which models make when they are built."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass


def install(gpu: Gpu) -> None:
    """Replace what torch.cuda asks the driver; again for another GPU of the same capability."""
    import torch

    properties = types.SimpleNamespace(
        name=gpu.name,
        major=gpu.capability[0],
        minor=gpu.capability[1],
        total_memory=gpu.memory,
        multi_processor_count=gpu.processors,
        shared_memory_per_block=48 * 1024,
        shared_memory_per_block_optin=gpu.shared_memory,
        shared_memory_per_multiprocessor=gpu.shared_memory + 1024,
        regs_per_multiprocessor=65536,
        max_threads_per_multi_processor=2048,
        warp_size=32,
        L2_cache_size=50 * 1024**2,
        is_integrated=False,
        gcnArchName="",
        uuid="fake",
    )
    torch.cuda.Stream = torch.cuda.Event = _Nothing
    answers: dict[str, Any] = {
        "current_device": 0,
        "get_device_capability": gpu.capability,
        "get_device_name": gpu.name,
        "get_device_properties": properties,
        "is_initialized": False,
        "mem_get_info": (gpu.memory, gpu.memory),
        "set_device": None,
    }
    for name, answer in answers.items():
        setattr(torch.cuda, name, lambda *_, answer=answer, **__: answer)
