"""Environment variables that vLLM and its libraries read when they are imported.

Pure: the caller applies the result to os.environ.
"""

from collections.abc import Mapping
from pathlib import Path

from slipstream_runtime.engine.config import EngineConfig

_READY_TIMEOUT_SECONDS = 24 * 3600
"""Seconds of vLLM's own limit of a load; the pod's startup probe sets the real limit."""
_TRUE = ("1", "ON", "YES", "TRUE")
"""Spellings of true in Hugging Face's libraries."""
_NO_REPOSITORY = "file:///nonexistent/"
"""Address that makes vLLM skip FlashInfer's downloads without a network; it would wait 5 s for an answer."""
_PIXELS = 36_000_000
"""Pixels of an image, read from its header before it is decoded: 108 MB in memory."""
_EMBEDDING_BYTES = 256 * 1024 * 1024
"""Bytes of embeddings in a request, which may be sparse."""


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
    """Return the variables to set; present ones are kept, except those that would break the engine."""
    chosen = {
        "DO_NOT_TRACK": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_ENGINE_READY_TIMEOUT_S": str(_READY_TIMEOUT_SECONDS),
        "VLLM_LOGGING_LEVEL": "WARNING",
        "VLLM_MAX_EMBED_DECODE_BYTES": str(_EMBEDDING_BYTES),
        "VLLM_MAX_IMAGE_PIXELS": str(_PIXELS),
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
        "HOME": str(scratch),
        "TMPDIR": str(scratch),
        # NB: the process ends by os._exit, so the kernel frees the resources that multiprocessing would free at exit.
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
            # NB: threads that spin while they wait use up the pod's CPU quota, or another pod's core.
            "OMP_WAIT_POLICY": "PASSIVE",
            # NB: `auto` pins all engines of a node to the same first cores.
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        }
    forced = {
        "VLLM_LOGGING_CONFIG_PATH": str(logging_config),
        # NB: a redirect leads out of the domains that are allowed.
        "VLLM_MEDIA_URL_ALLOW_REDIRECTS": "0",
        # NB: development mode adds routes that stop the engine.
        "VLLM_SERVER_DEV_MODE": "0",
    }
    if config.device == "cpu" and config.single:
        # NB: on CPU vLLM replaces the uni executor by a third process unless this is set.
        # AsyncLLM runs its engine core in another process in either case.
        forced["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    return {name: value for name, value in chosen.items() if name not in present} | forced


def _kernels(folder: Path) -> dict[str, str]:
    """Return the folders in which libraries cache compiled GPU kernels; DeepGEMM's are in VLLM_CACHE_ROOT."""
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
