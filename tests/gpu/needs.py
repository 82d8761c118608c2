"""Parts of the image that a kernel needs, each proven by use: imported, or made to compile for the GPU at hand.

A kernel that no row names fails the contract: read in vLLM which library it calls, and add it.
"""

import contextlib
import functools
import importlib
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from tests.gpu.hardware import Gpu

COMPILED: Final[Mapping[str, str]] = {
    "triton": "Triton",
    "flashinfer": "FlashInfer",
    "deepgemm": "DeepGEMM",
    "humming": "Humming",
    "cute": "CuTe DSL",
}
"""Need -> the compiler that runs in the pod, before the first request that meets the kernel."""

_TABLE: Final = (
    (r".*\(FA2\)", ("fa2",)),
    (r".*\(FA3\)|FLASH_ATTN_MLA", ("fa3",)),
    (r".*\(FA4\)", ("fa4", "cute")),
    (r"FLASHINFER|prefill FLASHINFER", ("flashinfer",)),
    (r"FLASHINFER_MLA|prefill TRTLLM_RAGGED|TrtLlm\w+", ("flashinfer", "cubins")),
    (r"CUTLASS_MLA", ("core",)),
    (r"FLASHMLA", ("flashmla",)),
    (r"(TRITON_|GDN_|LINEAR_)\w+|Triton\w+", ("triton",)),
    (r"TRITON_FLASH_ATTN", ("triton", "fa3")),
    (r"TRITON_FLASHINFER", ("triton", "flashinfer")),
    (r"Unquantized\w+|\w*Torch\w+Kernel|Emulation\w+", ()),
    (r"Cutlass\w+Kernel|Machete\w+|Marlin\w+Kernel|Exllama\w+", ("core",)),
    (r"CutlassExperts\w+|Marlin\w*Experts", ("core", "experts")),
    (r"FlashInfer\w+", ("flashinfer",)),
    (r"FlashInferCuteDsl\w+|FlashInferCuteDSL\w+|FlashInferB12x\w+", ("flashinfer", "cute")),
    (r"DeepGemm\w+", ("deepgemm",)),
    (r"TritonOrDeepGemmExperts", ("triton", "deepgemm")),
    (r"TritonOrCutlassExperts", ("triton", "core", "experts")),
    (r"OAITriton\w+|UnfusedOAITriton\w+", ("triton", "triton_kernels")),
    (r"Humming\w+", ("humming",)),
)
"""Pattern of kernels -> needs; of several rows that match, the last counts."""

_SOURCE: Final = r"""
#include <cublasLt.h>
#include <cuda.h>
#include <cuda_bf16.h>
#include <cuda_fp8.h>
#include <cuda_runtime.h>
#include <curand_kernel.h>
#include <nvrtc.h>
#include <cub/cub.cuh>
#include <cuda/std/type_traits>
__global__ void scale(float *values) { values[threadIdx.x] *= 2; }
extern "C" int launch(float *values) {
    scale<<<1, 32>>>(values);
    int version;
    return cudaGetLastError() + cuDriverGetVersion(&version);
}
"""
"""Headers and libraries that kernels of FlashInfer and DeepGEMM are compiled with."""


class LackingError(Exception):
    """The image lacks something, in words."""


def of(kernel: str) -> tuple[str, ...]:
    """Return the needs of a kernel; LackingError if it is unknown."""
    rows = [needs for pattern, needs in _TABLE if re.fullmatch(pattern, kernel)]
    if not rows:
        raise LackingError(f"{kernel}: no row of tests/gpu/needs.py says what it needs")
    return rows[-1]


def check(kernels: Mapping[str, Any], gpu: Gpu) -> dict[str, str | None]:
    """Return need -> what the image lacks for it, or None, over all kernels of a choice.

    Triton is always needed: torch.compile and vLLM's sampler use it.
    """
    found = {"triton": _lack("triton", gpu)}
    for kernel in sorted({name for names in kernels.values() for name in names}):
        try:
            needs = of(kernel)
        except LackingError as error:
            found[kernel] = str(error)
            continue
        found |= {need: _lack(need, gpu) for need in needs}
    return found


@functools.cache
def _lack(need: str, gpu: Gpu) -> str | None:
    try:
        _PROOFS[need](gpu)
    except Exception as error:
        return f"{type(error).__name__}: {error}"[-2000:]
    return None


def _imports(*names: str) -> Callable[[Gpu], None]:
    def proof(_: Gpu) -> None:
        for name in names:
            importlib.import_module(name)

    return proof


def _triton(gpu: Gpu) -> None:
    """Compile a kernel, and Triton's part in C that starts kernels."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.backends.nvidia.driver import CudaUtils
    from triton.compiler import ASTSource

    from tests.gpu import triton_kernel

    source = ASTSource(triton_kernel.scale, signature={"values": "*fp32"}, constexprs={})
    major, minor = gpu.capability
    compiled = triton.compile(source, target=GPUTarget("cuda", major * 10 + minor, 32))
    assert compiled.asm["cubin"]
    CudaUtils()


def _flashinfer(gpu: Gpu) -> None:
    importlib.import_module("flashinfer")
    if shutil.which("ninja") is None:
        raise LackingError("ninja, with which FlashInfer builds, is not on PATH")
    from vllm.utils.flashinfer import has_flashinfer

    if not has_flashinfer():
        raise LackingError("vLLM finds no nvcc for FlashInfer")
    _nvcc(gpu)


def _deepgemm(gpu: Gpu) -> None:
    importlib.import_module("vllm.third_party.deep_gemm")
    _nvcc(gpu)


def _nvcc(gpu: Gpu) -> None:
    """Compile and link as FlashInfer does, with the compiler that CUDA_HOME names."""
    home = Path(os.environ.get("CUDA_HOME", "/usr/local/cuda"))
    with _folder() as folder:
        (folder / "probe.cu").write_text(_SOURCE)
        compile_it = f"nvcc -arch={gpu.architecture} -std=c++17 -shared -Xcompiler -fPIC -o probe.so probe.cu"
        paths = f"-I{home}/include/cccl -L{home}/lib64 -L{home}/lib64/stubs -lcudart -lcuda"
        _run(f"{home}/bin/{compile_it} {paths}", folder)


def _humming(gpu: Gpu) -> None:
    """Build Humming's compiler in C++ and have it compile a kernel."""
    from humming.utils import nvrtc

    with _folder() as folder:
        (folder / "kernel.cu").write_text("__global__ void scale(float *v) { v[0] *= 2; }")
        compiler = nvrtc.may_build_nvrtc_compile_binary()
        arguments = (
            f"--nvrtc-path {nvrtc.get_nvrtc_library_path()} --input kernel.cu --output kernel.cubin"
        )
        _run(f"{compiler} {arguments} -- --gpu-architecture={gpu.architecture}", folder)


def _cubins(_: Gpu) -> None:
    """Kernels that exist only compiled: FlashInfer loads them from NVIDIA's server unless they are in the image."""
    importlib.import_module("flashinfer_cubin")


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def _run(command: str, folder: Path) -> None:
    done = subprocess.run(
        shlex.split(command),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise LackingError(f"{command} ended with {done.returncode}: {done.stdout}")


_PROOFS: Final[Mapping[str, Callable[[Gpu], None]]] = {
    "core": _imports("vllm._C_stable_libtorch"),
    "experts": _imports("vllm._moe_C_stable_libtorch"),
    "fa2": _imports("vllm.vllm_flash_attn._vllm_fa2_C"),
    "fa3": _imports("vllm.vllm_flash_attn._vllm_fa3_C"),
    "fa4": _imports("vllm.vllm_flash_attn.cute"),
    "flashmla": _imports("vllm._flashmla_C"),
    "triton_kernels": _imports("vllm.third_party.triton_kernels"),
    "cute": _imports("cutlass.cute"),
    "cubins": _cubins,
    "triton": _triton,
    "flashinfer": _flashinfer,
    "deepgemm": _deepgemm,
    "humming": _humming,
}
