"""Environment variables of an engine's process."""

from pathlib import Path
from typing import Any

import pytest

from slipstream_runtime.engine import environment
from slipstream_runtime.engine.config import EngineConfig
from tests.support.engine_configs import config


def variables(wanted: EngineConfig, **more: Any) -> dict[str, str]:
    defaults: dict[str, Any] = {
        "present": {},
        "cores": 3,
        "local": True,
        "cache": Path("/cache"),
        "scratch": Path("/scratch"),
        "logging_config": Path("/l.json"),
    }
    return environment.build(wanted, **{**defaults, **more})


def test_the_environment_of_a_cpu_engine() -> None:
    assert variables(config(device="cpu")) == {
        "DO_NOT_TRACK": "1",
        "HF_HOME": "/cache/huggingface",
        "HF_HUB_OFFLINE": "1",
        "HOME": "/scratch",
        "OMP_NUM_THREADS": "3",
        "OMP_WAIT_POLICY": "PASSIVE",
        "PYTHONWARNINGS": "ignore:resource_tracker:UserWarning",
        "TMPDIR": "/scratch",
        "TORCHINDUCTOR_CACHE_DIR": "/cache/inductor",
        "TRANSFORMERS_OFFLINE": "1",
        "TRITON_CACHE_DIR": "/cache/triton",
        "VLLM_CACHE_ROOT": "/cache/vllm",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_ENGINE_READY_TIMEOUT_S": "86400",
        "VLLM_LOGGING_CONFIG_PATH": "/l.json",
        "VLLM_LOGGING_LEVEL": "WARNING",
        "VLLM_MAX_EMBED_DECODE_BYTES": "268435456",
        "VLLM_MAX_IMAGE_PIXELS": "36000000",
        "VLLM_MEDIA_URL_ALLOW_REDIRECTS": "0",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_SERVER_DEV_MODE": "0",
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    }


def test_a_gpu_engine_keeps_vllms_threads_and_processes() -> None:
    found = variables(config(device="cuda"), cache=None)
    assert not {"OMP_NUM_THREADS", "VLLM_ENABLE_V1_MULTIPROCESSING", "HF_HOME"} & set(found)


def test_kernels_that_a_gpu_engine_compiled_are_kept_with_its_model() -> None:
    found = variables(config(device="cuda"))
    folders = {
        Path(value) for name, value in found.items() if "CACHE" in name or "WORKSPACE" in name
    }
    assert len(folders) == 11
    assert all(folder.is_relative_to("/cache") for folder in folders)


@pytest.mark.parametrize(("offline", "kept"), [("1", True), ("true", True), ("0", False)])
def test_sites_without_a_network_are_not_made_to_wait_for_nvidias(offline: str, kept: bool) -> None:
    found = variables(config(device="cuda"), present={"HF_HUB_OFFLINE": offline})
    assert ("FLASHINFER_CUBINS_REPOSITORY" in found) is kept


def test_the_hub_stays_reachable_for_models_from_the_hub() -> None:
    assert "HF_HUB_OFFLINE" not in variables(config(), local=False)


def test_the_pods_own_variables_win_except_where_they_would_break_the_engine() -> None:
    present = {"OMP_NUM_THREADS": "1", "VLLM_SERVER_DEV_MODE": "1", "HOME": "/home/me"}
    found = variables(config(device="cpu"), present=present)
    assert "OMP_NUM_THREADS" not in found
    assert "HOME" not in found
    assert found["VLLM_SERVER_DEV_MODE"] == "0"
