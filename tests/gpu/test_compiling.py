"""Kernels that vLLM's libraries compile in the pod are compiled to finished objects of H100, without a GPU.

Both with the toolkit that the image has, into a folder of their own, and with nothing else on the way.
"""

import subprocess
from pathlib import Path

import pytest

from dev.environments import cuda
from tests.support import drivers

H100 = "sm_90a"
ELF_CUDA_MACHINE = 190
FLASHINFER = """
from flashinfer.jit.page import gen_page_module
from vllm.utils.flashinfer import has_flashinfer
assert has_flashinfer()
spec = gen_page_module()
spec.build()
print(spec.get_library_path())
"""
DEEPGEMM = """
#include <deep_gemm/impls/sm90_fp8_gemm_1d2d.cuh>
using namespace deep_gemm;
static void __instantiate_kernel() {
    auto ptr = reinterpret_cast<void*>(&sm90_fp8_gemm_1d2d_impl<
        cute::UMMA::Major::K,
        0, 4096, 4096,
        1,
        64, 128, 128,
        128, 128, 128,
        5,
        128, 128,
        1, false,
        132, GemmType::Normal,
        cutlass::bfloat16_t,
        epilogue::transform::EpilogueIdentity
    >);
}
"""
DEEPGEMM_FLAGS = (
    "--compiler-options=-fPIC",
    "--compiler-options=-fconcepts",
    "--expt-relaxed-constexpr",
    "--expt-extended-lambda",
    "--diag-suppress=39,161,174,177,186,940",
    "--compiler-options=-Wno-deprecated-declarations,-Wno-abi",
)


@pytest.fixture(scope="module")
def environment() -> Path:
    return cuda.build(report=lambda *_: None)


def variables(folder: Path, **more: str) -> dict[str, str]:
    """Only what the image and the engine's own environment set."""
    return {
        "PATH": f"{cuda.folder()}/bin:/usr/bin:/bin",
        "CUDA_HOME": str(cuda.home()),
        "HOME": str(folder / "home"),
        "LD_LIBRARY_PATH": str(folder),
        "PYTHONDONTWRITEBYTECODE": "1",
        **more,
    }


@pytest.mark.timeout(900)
def test_flashinfer_builds_a_kernel(environment: Path, tmp_path: Path) -> None:
    drivers.compiled(tmp_path)
    kept = tmp_path / "kept"
    done = subprocess.run(
        [cuda.python(), "-c", FLASHINFER],
        env=variables(
            tmp_path, FLASHINFER_WORKSPACE_BASE=str(kept), FLASHINFER_CUDA_ARCH_LIST="9.0a"
        ),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    library = Path(done.stdout.split()[-1])
    assert library.is_relative_to(kept)
    assert H100.encode() in library.read_bytes()
    needed = subprocess.run(["readelf", "-d", library], capture_output=True, text=True, check=True)
    assert "[libcudart.so.13]" in needed.stdout


@pytest.mark.timeout(900)
def test_deepgemm_s_kernel_of_block_fp8_checkpoints_compiles(
    environment: Path, tmp_path: Path
) -> None:
    found = next(environment.glob("lib/python3.*/site-packages/vllm/third_party/deep_gemm"))
    library = next(found.glob("_C_extension*.so")).read_bytes()
    head = "auto ptr = reinterpret_cast<void*>(&sm90_fp8_gemm_1d2d_impl<"
    for part in (*DEEPGEMM_FLAGS, "#include <deep_gemm/impls/sm90_fp8_gemm_1d2d.cuh>", head):
        assert part.encode() in library, f"DeepGEMM does not compile with {part} any more"
    (tmp_path / "kernel.cu").write_text(DEEPGEMM)
    done = subprocess.run(
        [
            cuda.home() / "bin" / "nvcc",
            "kernel.cu",
            *("--cubin", "--output-file", "kernel.cubin", "--include-path", found / "include"),
            *("-std=c++20", f"--gpu-architecture={H100}", "--compiler-options=-O3"),
            *DEEPGEMM_FLAGS,
        ],
        cwd=tmp_path,
        env=variables(tmp_path) | {"TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    cubin = (tmp_path / "kernel.cubin").read_bytes()
    assert cubin[:4] == b"\x7fELF"
    assert int.from_bytes(cubin[18:20], "little") == ELF_CUDA_MACHINE
    assert b"sm90_fp8_gemm_1d2d_impl" in cubin
    assert len(cubin) > 16_384, "the kernel's body is missing"
