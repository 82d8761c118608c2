"""The environment variables that vLLM and its libraries read at import, decided before any is imported.

Pure: the caller applies the result to os.environ.
"""

from collections.abc import Mapping
from pathlib import Path

from slipstream_runtime.engine.config import EngineConfig

_READY_TIMEOUT_SECONDS = 24 * 3600
"""vLLM's own limit of a load; the pod's startup probe is the one that counts."""
_TRUE = ("1", "ON", "YES", "TRUE")
"""Spellings that Hugging Face's libraries know."""
_NO_REPOSITORY = "file:///nonexistent/"
"""Kept from the network, vLLM goes without FlashInfer's downloads; else it waits 5 s for an answer."""


def build(
    config: EngineConfig,
    *,
    present: Mapping[str, str],
    cores: int,
    local: bool,
    cache: Path | None,
    scratch: Path,
    logging_config: Path,
) -> dict[str, str]:
    """Variables to set; what the pod's author set already wins, but for those that would break the engine."""
    chosen = {
        "DO_NOT_TRACK": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_ENGINE_READY_TIMEOUT_S": str(_READY_TIMEOUT_SECONDS),
        "VLLM_LOGGING_LEVEL": "WARNING",
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
        "HOME": str(scratch),
        "TMPDIR": str(scratch),
        # NB: the process leaves by os._exit, so what multiprocessing would tidy at exit is left to the kernel.
        "PYTHONWARNINGS": "ignore:resource_tracker:UserWarning",
    }
    if local:
        chosen |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    if cache is not None:
        chosen |= {
            "HF_HOME": str(cache / "huggingface"),
            "TORCHINDUCTOR_CACHE_DIR": str(cache / "inductor"),
            "TRITON_CACHE_DIR": str(cache / "triton"),
            "VLLM_CACHE_ROOT": str(cache / "vllm"),
        }
    if config.device == "cuda":
        if cache is not None:
            chosen |= _kernels(cache / "kernels")
        if present.get("HF_HUB_OFFLINE", "").upper() in _TRUE:
            chosen["FLASHINFER_CUBINS_REPOSITORY"] = _NO_REPOSITORY
    if config.device == "cpu":
        chosen |= {
            "OMP_NUM_THREADS": str(cores),
            # NB: threads that spin while they wait eat the pod's CPU quota, or the core of a neighbour.
            "OMP_WAIT_POLICY": "PASSIVE",
            # NB: `auto` pins each engine to the first cores of the node: all engines to the same ones.
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        }
    forced = {
        "VLLM_LOGGING_CONFIG_PATH": str(logging_config),
        # NB: development mode adds routes that stop the engine.
        "VLLM_SERVER_DEV_MODE": "0",
    }
    if config.device == "cpu" and config.single:
        # NB: on CPU vLLM replaces the uni executor by a third process unless this says otherwise.
        # AsyncLLM runs its engine core in a process of its own in either case.
        forced["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    return {name: value for name, value in chosen.items() if name not in present} | forced


def _kernels(folder: Path) -> dict[str, str]:
    """Places where libraries keep the GPU kernels that they compiled; DeepGEMM's are in VLLM_CACHE_ROOT."""
    return {
        "XDG_CACHE_HOME": str(folder),
        "CUDA_CACHE_PATH": str(folder / "driver"),
        "CUTE_DSL_CACHE_DIR": str(folder / "cutlass"),
        "FLASHINFER_WORKSPACE_BASE": str(folder),
        "HUMMING_CACHE_DIR": str(folder / "humming"),
        "MINFER_FMHA_CACHE_DIR": str(folder / "minfer"),
        "QUACK_CACHE_DIR": str(folder / "quack"),
        "TILELANG_CACHE_DIR": str(folder / "tilelang"),
        "TORCH_EXTENSIONS_DIR": str(folder / "torch"),
        "TVM_FFI_CACHE_DIR": str(folder / "tvm-ffi"),
    }
