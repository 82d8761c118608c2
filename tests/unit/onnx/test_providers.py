"""Execution providers: what is wanted, what is reported, and what a GPU service never does: run on the CPU."""

from pathlib import Path

import pytest

from slipstream_runtime.errors import UnsuitableError
from slipstream_runtime.onnx import providers
from slipstream_runtime.onnx.providers import CPU, CUDA, TENSORRT


def test_what_is_wanted_follows_from_the_accelerator() -> None:
    assert providers.wanted("cpu", tensorrt=False) == (CPU,)
    assert providers.wanted("cuda", tensorrt=False) == (CUDA, CPU)
    assert providers.wanted("cuda", tensorrt=True) == (TENSORRT, CUDA, CPU)


def test_only_what_the_build_has_is_asked_for_in_the_order_of_the_wishes() -> None:
    wanted = (TENSORRT, CUDA, CPU)
    assert providers.usable(wanted, available=[CPU, CUDA, "Azure"]) == (CUDA, CPU)


def test_no_fall_back_is_none() -> None:
    found = providers.compare((CUDA, CPU), used=[CUDA, CPU])
    assert (found.missing, found.fell_back) == ((), False)


def test_cuda_in_place_of_tensorrt_is_a_fall_back_that_is_reported() -> None:
    found = providers.compare((TENSORRT, CUDA, CPU), used=[CUDA, CPU])
    assert (found.missing, found.fell_back) == ((TENSORRT,), True)


def test_a_build_without_cuda_is_no_use_on_a_gpu_node() -> None:
    with pytest.raises(UnsuitableError, match=r"on the CPU of a GPU node.*images\.onnx") as caught:
        providers.usable((CUDA, CPU), available=[CPU])
    assert caught.value.exit_code == 2


def test_a_session_that_quietly_fell_back_to_the_cpu_is_refused() -> None:
    with pytest.raises(UnsuitableError, match="the session got CPUExecutionProvider"):
        providers.compare((CUDA, CPU), used=[CPU])


def test_tensorrt_compiles_once_for_all_batches() -> None:
    options = providers.tensorrt_options(
        ["input_ids", "attention_mask"], sequences=64, length=512, cache=Path("/cache")
    )
    assert options["trt_profile_min_shapes"] == "input_ids:1x1,attention_mask:1x1"
    assert options["trt_profile_opt_shapes"] == "input_ids:8x128,attention_mask:8x128"
    assert options["trt_profile_max_shapes"] == "input_ids:64x512,attention_mask:64x512"
    assert options["trt_engine_cache_path"] == "/cache"
