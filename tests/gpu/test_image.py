"""Facts about the locked packages that our code and documents state: read in the packages themselves."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from dev.environments import cuda, records
from slipstream_runtime.engine import environment
from slipstream_runtime.engine.config import EngineConfig
from slipstream_runtime.machine import gpu

READ_BY = {
    "CUTE_DSL_CACHE_DIR": "flashinfer/data/cutlass/python/CuTeDSL/cutlass/base_dsl/cache_helpers.py",
    "DG_JIT_CACHE_DIR": "vllm/utils/deep_gemm.py",
    "FLASHINFER_CUBINS_REPOSITORY": "vllm/utils/flashinfer.py",
    "FLASHINFER_WORKSPACE_BASE": "flashinfer/jit/env.py",
    "HUMMING_CACHE_DIR": "humming/utils/jit.py",
    "MINFER_FMHA_CACHE_DIR": "vllm/third_party/fmha_sm100/jit.py",
    "QUACK_CACHE_DIR": "quack/cache/__init__.py",
    "TILELANG_CACHE_DIR": "tilelang/env.py",
    "TORCHINDUCTOR_CACHE_DIR": "torch/_inductor/runtime/cache_dir_utils.py",
    "TORCH_EXTENSIONS_DIR": "torch/utils/cpp_extension.py",
    "TRITON_CACHE_DIR": "triton/knobs.py",
    "TVM_FFI_CACHE_DIR": "tvm_ffi/cpp/extension.py",
    "VLLM_CACHE_ROOT": "vllm/envs.py",
    "XDG_CACHE_HOME": "cutile_cache/_env.py",
}
READ_BY_THE_DRIVER = {"CUDA_CACHE_PATH"}
READ_BY_THE_HUB = {"HF_HOME"}
TORCH = """
import json, torch
flags = torch._C._cuda_getArchFlags()
print(json.dumps({"cuda": torch.version.cuda, "flags": flags}))
"""
PROBE = """
import time
from vllm.utils.flashinfer import has_nvidia_artifactory
begin = time.monotonic()
print(has_nvidia_artifactory(), time.monotonic() - begin)
"""


@pytest.fixture(scope="module")
def packages() -> Path:
    return next(cuda.build(report=lambda *_: None).glob("lib/python3.*/site-packages"))


@pytest.mark.parametrize("name", READ_BY)
def test_a_library_reads_the_variable_that_we_set(packages: Path, name: str) -> None:
    assert re.search(rf"\b{name}\b", (packages / READ_BY[name]).read_text())


def variables(**present: str) -> dict[str, str]:
    config = EngineConfig.model_validate(
        {"model": {"uri": "pvc://a/b", "name": "m"}, "drainSeconds": 1, "device": "cuda"}
    )
    values: dict[str, Any] = {"cores": 1, "local": True, "cache": Path("/cache")}
    more = {"scratch": Path("/tmp"), "logging_config": Path("/l.json")}
    return environment.build(config, present=present, **values, **more)


@pytest.mark.timeout(300)
def test_a_site_without_a_network_is_not_waited_for(packages: Path) -> None:
    name = "FLASHINFER_CUBINS_REPOSITORY"
    done = subprocess.run(
        [cuda.python(), "-c", PROBE],
        env=os.environ | {name: variables(HF_HUB_OFFLINE="1")[name]},
        capture_output=True,
        text=True,
        check=True,
    )
    found, seconds = done.stdout.split()
    assert found == "False"
    assert float(seconds) < 1


def test_every_folder_that_we_set_is_one_that_a_library_reads() -> None:
    found = variables()
    folders = {name for name, value in found.items() if value.startswith("/cache")}
    assert folders == READ_BY.keys() - {"DG_JIT_CACHE_DIR", "FLASHINFER_CUBINS_REPOSITORY"} | (
        READ_BY_THE_DRIVER | READ_BY_THE_HUB
    )


def test_nodes_are_refused_by_what_torch_was_built_for(packages: Path) -> None:
    done = subprocess.run([cuda.python(), "-c", TORCH], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert tuple(map(int, found["cuda"].split("."))) == gpu.CUDA
    oldest = min(int(number) for number in re.findall(r"sm_(\d+)", found["flags"]))
    assert divmod(oldest, 10) == gpu.OLDEST


def test_no_file_of_the_image_belongs_to_two_packages(packages: Path) -> None:
    assert records.shared(packages) == {}
