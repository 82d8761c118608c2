"""Execution providers that run a model, compared with the ones that the service needs.

Pure: the providers of ONNX Runtime and of a session are arguments.
"""

import dataclasses
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final, Literal

from slipstream_runtime.errors import UnsuitableError

CPU: Final = "CPUExecutionProvider"
CUDA: Final = "CUDAExecutionProvider"
TENSORRT: Final = "TensorrtExecutionProvider"

Device = Literal["cuda", "cpu"]


@dataclasses.dataclass(frozen=True)
class Providers:
    """Providers that were wanted and that are in use, each in order of preference."""

    wanted: tuple[str, ...]
    used: tuple[str, ...]

    @property
    def missing(self) -> tuple[str, ...]:
        """Providers that were wanted and are not in use."""
        return tuple(name for name in self.wanted if name not in self.used)

    @property
    def fell_back(self) -> bool:
        """Whether the model runs on another provider than the first choice."""
        return self.used[:1] != self.wanted[:1]


def wanted(device: Device, *, tensorrt: bool) -> tuple[str, ...]:
    """Return the providers in order of preference; the CPU runs the operators that the others lack."""
    if device == "cpu":
        return (CPU,)
    return (TENSORRT, CUDA, CPU) if tensorrt else (CUDA, CPU)


def usable(wanted: Sequence[str], *, available: Collection[str]) -> tuple[str, ...]:
    """Return the wanted providers that this build of ONNX Runtime has."""
    found = tuple(name for name in wanted if name in available)
    _check(wanted, found, why=f"this image's ONNX Runtime has {', '.join(available) or 'none'}")
    return found


def compare(wanted: Sequence[str], *, used: Sequence[str]) -> Providers:
    """Return the providers that a session uses, beside the wanted ones."""
    _check(wanted, used, why=f"the session got {', '.join(used) or 'none'}")
    return Providers(tuple(wanted), tuple(used))


def tensorrt_options(
    inputs: Sequence[str], *, sequences: int, length: int, cache: Path | None
) -> dict[str, str]:
    """Return options for one compiled engine for all shapes of a batch; without bounds, each new shape is compiled."""
    bounds = {
        "min": (1, 1),
        "opt": (min(8, sequences), min(128, length)),
        "max": (sequences, length),
    }
    options = {
        f"trt_profile_{name}_shapes": ",".join(f"{node}:{rows}x{tokens}" for node in inputs)
        for name, (rows, tokens) in bounds.items()
    }
    if cache is not None:
        options |= {
            "trt_engine_cache_enable": "True",
            "trt_engine_cache_path": str(cache),
            "trt_timing_cache_enable": "True",
            "trt_timing_cache_path": str(cache),
        }
    return options


def _check(wanted: Sequence[str], found: Sequence[str], *, why: str) -> None:
    """Raise UnsuitableError if a GPU service would run on the CPU, and hold a GPU without using it."""
    if CUDA in wanted and not {CUDA, TENSORRT} & set(found):
        raise UnsuitableError(
            f"spec.accelerator.type: the model would run on the CPU of a GPU node, because {why}. Set images.onnx of "
            "the ServingProfile to the CUDA build, check the node's driver, or use type cpu."
        )
    if CPU not in found:
        raise UnsuitableError(f"{CPU} is missing, because {why}.")
