"""Nodes that can't run the image are told so before anything is loaded or imported."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from slipstream_runtime.errors import UnsuitableError
from slipstream_runtime.machine import gpu
from tests.support import drivers

H100 = gpu.Gpu("NVIDIA H100 80GB HBM3", (9, 0))
V100 = gpu.Gpu("Tesla V100-SXM2-16GB", (7, 0))


@pytest.mark.parametrize(
    "gpus", [(H100,), (gpu.Gpu("Tesla T4", (7, 5)),), (gpu.Gpu("NVIDIA B200", (10, 0)), H100)]
)
@pytest.mark.parametrize("cuda", [(13, 0), (13, 4), (14, 0)])
def test_drivers_and_gpus_that_run_the_image_pass(
    cuda: tuple[int, int], gpus: tuple[gpu.Gpu, ...]
) -> None:
    assert gpu.refusal(gpu.Driver(cuda, gpus=gpus)) is None


@pytest.mark.parametrize(
    ("driver", "words"),
    [
        (gpu.Driver((12, 9), gpus=(H100,)), "runs CUDA 12.9 at most, and this image needs 13.0"),
        (gpu.Driver((12, 9), code=804), "Use nodes with driver 580 or newer"),
        (gpu.Driver((13, 0)), "sees no GPU"),
        (gpu.Driver((13, 0), code=100), "sees no GPU"),
        (gpu.Driver((13, 0), code=802), "fabric manager"),
        (gpu.Driver((13, 0), code=999), "error 999"),
        (gpu.Driver((13, 0), gpus=(H100, V100)), "V100-SXM2-16GB has compute capability 7.0"),
    ],
)
def test_what_cannot_run_is_told_with_what_to_do(driver: gpu.Driver, words: str) -> None:
    assert words in str(gpu.refusal(driver))


@pytest.mark.parametrize(
    ("gpus", "expected"), [((), None), ((H100,), (9, 0)), ((H100, V100), (7, 0))]
)
def test_a_node_is_as_capable_as_its_oldest_gpu(
    gpus: tuple[gpu.Gpu, ...], expected: tuple[int, int] | None
) -> None:
    assert gpu.Driver((13, 0), gpus=gpus).capability == expected


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ({}, gpu.Driver((13, 0), gpus=(H100,))),
        ({"version": 12080}, gpu.Driver((12, 8), gpus=(H100,))),
        ({"code": 802}, gpu.Driver((13, 0), code=802)),
        ({"count": 0}, gpu.Driver((13, 0))),
        (
            {"count": 2, "name": V100.name, "capability": V100.capability},
            gpu.Driver((13, 0), gpus=(V100, V100)),
        ),
    ],
)
def test_the_drivers_library_is_asked(
    tmp_path: Path, answers: dict[str, Any], expected: gpu.Driver
) -> None:
    assert gpu.ask(str(drivers.compiled(tmp_path, **answers))) == expected


def test_a_driver_that_is_not_mounted_is_told(tmp_path: Path) -> None:
    with pytest.raises(UnsuitableError, match=r"does not reach the container.*RuntimeClass"):
        gpu.ask(str(tmp_path / "libcuda.so.1"))


@pytest.mark.parametrize("module", ["engine", "onnx"])
def test_an_engine_ends_with_the_reason_before_it_looks_for_the_model(
    tmp_path: Path, module: str
) -> None:
    drivers.compiled(tmp_path, version=12040)
    config = {"model": {"uri": "file:///nowhere", "name": "m"}, "drainSeconds": 1}
    (tmp_path / "config.json").write_text(json.dumps(config | {"device": "cuda"}))
    options = ["--config", "config.json", "--termination-log", "reason"]
    ports = ["--api-port", "0", "--management-port", "0"]
    done = subprocess.run(
        [sys.executable, "-m", f"slipstream_runtime.{module}", *options, *ports],
        cwd=tmp_path,
        env=os.environ | {"LD_LIBRARY_PATH": str(tmp_path)},
        capture_output=True,
        check=False,
        timeout=50,
    )
    assert done.returncode == 2
    assert "runs CUDA 12.4 at most" in (tmp_path / "reason").read_text()
