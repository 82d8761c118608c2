"""Quantization of a checkpoint, and the settings that fit it."""

import json
from pathlib import Path
from typing import Any

import pytest

from slipstream_runtime.engine import checkpoint
from slipstream_runtime.errors import EngineError, UnsuitableError


def compressed(
    *, bits: int, kind: str = "int", activations: int | None = None, group: int | None = None
) -> dict[str, Any]:
    inputs = None if activations is None else {"num_bits": activations, "type": kind}
    weights = {"num_bits": bits, "type": kind} | ({"group_size": group} if group else {})
    scheme = {"weights": weights, "input_activations": inputs}
    return {
        "dtype": "bfloat16",
        "quantization_config": {
            "quant_method": "compressed-tensors",
            "config_groups": {"group_0": scheme},
        },
    }


def own(method: str, **more: object) -> dict[str, Any]:
    return {"quantization_config": {"quant_method": method, **more}}


@pytest.mark.parametrize(
    ("config", "kind", "detail"),
    [
        ({"dtype": "bfloat16"}, "none", "bf16"),
        ({"torch_dtype": "float16"}, "none", "fp16"),
        ({"text_config": {"dtype": "float32"}}, "none", "fp32"),
        ({}, "none", "not quantized"),
        (compressed(bits=8, activations=8), "int8", "compressed-tensors W8A8"),
        (compressed(bits=4), "int4", "compressed-tensors W4A16"),
        (compressed(bits=4, activations=8), "int4", "compressed-tensors W4A8"),
        (compressed(bits=8, kind="float", activations=8), "fp8", "compressed-tensors W8A8"),
        (compressed(bits=4, kind="float"), "fp4", "compressed-tensors W4A16"),
        (
            {"compression_config": {"config_groups": {}}},
            "unknown",
            "compressed-tensors without a scheme",
        ),
        (own("awq", bits=4), "awq", "awq with 4 bits"),
        (own("gptq", bits=8), "gptq", "gptq with 8 bits"),
        (own("fp8"), "fp8", "fp8"),
        (own("modelopt", quant_algo="FP8"), "fp8", "ModelOpt FP8"),
        (own("modelopt", quant_algo="NVFP4"), "nvfp4", "ModelOpt NVFP4"),
        (own("modelopt", quant_algo="MXFP8"), "mxfp8", "ModelOpt MXFP8"),
        (own("mxfp4"), "mxfp4", "mxfp4"),
        (compressed(bits=4, kind="float", group=16), "nvfp4", "compressed-tensors W4A16"),
        (
            compressed(bits=4, kind="float", group=16, activations=4),
            "nvfp4",
            "compressed-tensors W4A4",
        ),
        (compressed(bits=4, kind="float", group=32), "mxfp4", "compressed-tensors W4A16"),
        (own("bitsandbytes"), "bitsandbytes", "bitsandbytes"),
        ({"text_config": own("awq", bits=4)}, "awq", "awq with 4 bits"),
    ],
)
def test_config_json_says_what_a_checkpoint_is(
    config: dict[str, Any], kind: str, detail: str
) -> None:
    assert checkpoint.read(config) == checkpoint.Checkpoint(kind, detail)


BF16 = checkpoint.Checkpoint("none", "bf16")
INT4 = checkpoint.Checkpoint("int4", "compressed-tensors W4A16")
INT8 = checkpoint.Checkpoint("int8", "compressed-tensors W8A8")
FP8 = checkpoint.Checkpoint("fp8", "fp8")
AWQ = checkpoint.Checkpoint("awq", "awq with 4 bits")
NVFP4 = checkpoint.Checkpoint("nvfp4", "ModelOpt NVFP4")
MXFP4 = checkpoint.Checkpoint("mxfp4", "mxfp4")
GPTQ = checkpoint.Checkpoint("gptq", "gptq with 4 bits")
OTHER = checkpoint.Checkpoint("bitsandbytes", "bitsandbytes")


@pytest.mark.parametrize(
    ("method", "fitting"),
    [
        ("auto", {"BF16", "INT4", "INT8", "FP8", "AWQ", "GPTQ", "NVFP4", "MXFP4", "OTHER"}),
        ("none", {"BF16"}),
        ("fp8", {"BF16", "FP8"}),
        ("int8", {"INT8"}),
        ("int4", {"INT4"}),
        ("awq", {"AWQ"}),
        ("gptq", {"GPTQ"}),
        ("nvfp4", {"NVFP4"}),
        ("mxfp4", {"MXFP4"}),
    ],
)
def test_each_method_fits_its_own_checkpoints_only(method: str, fitting: set[str]) -> None:
    names = ("BF16", "INT4", "INT8", "FP8", "AWQ", "GPTQ", "NVFP4", "MXFP4", "OTHER")
    fits = set()
    for name in names:
        try:
            checkpoint.check(method, globals()[name], uri="file:///m")
        except UnsuitableError:
            continue
        fits.add(name)
    assert fits == fitting


@pytest.mark.parametrize(
    ("method", "found", "message"),
    [
        (
            "int4",
            BF16,
            (
                'spec.quantization.method: "int4" needs a checkpoint that is already int4; file:///m is bf16. '
                "Use fp8, or a checkpoint quantized to int4."
            ),
        ),
        (
            "int8",
            AWQ,
            (
                'spec.quantization.method: "int8" needs a checkpoint that is already int8; file:///m is awq '
                "(awq with 4 bits). Use awq, or a checkpoint quantized to int8."
            ),
        ),
        (
            "none",
            INT8,
            (
                'spec.quantization.method: "none" needs an unquantized checkpoint; file:///m is int8 '
                "(compressed-tensors W8A8). Use int8, or an unquantized checkpoint."
            ),
        ),
        (
            "fp8",
            OTHER,
            (
                'spec.quantization.method: "fp8" needs an unquantized or fp8 checkpoint; file:///m is '
                "bitsandbytes. Use auto, or an unquantized checkpoint."
            ),
        ),
    ],
)
def test_the_message_names_field_value_reason_and_remedy(
    method: str, found: checkpoint.Checkpoint, message: str
) -> None:
    with pytest.raises(UnsuitableError) as caught:
        checkpoint.check(method, found, uri="file:///m")
    assert caught.value.reason == message


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, None),
        ({"sliding_window": None}, None),
        ({"sliding_window": 0}, None),
        ({"sliding_window": 4096}, "config"),
        ({"sliding_window": 4096, "use_sliding_window": False}, None),
        ({"sliding_window": 4096, "layer_types": ["full_attention"]}, None),
        (
            {"sliding_window": 4096, "layer_types": ["full_attention", "sliding_attention"]},
            "config",
        ),
        ({"text_config": {"sliding_window": 512}}, "text_config"),
        ({"text_config": {"sliding_window": None}}, None),
    ],
)
def test_config_json_says_whether_layers_have_a_window(
    config: dict[str, Any], expected: str | None
) -> None:
    assert checkpoint.read(config).window == expected


def test_a_window_is_only_for_models_that_were_made_with_one() -> None:
    checkpoint.check_window(None, BF16, uri="hf://a/b")
    checkpoint.check_window(64, checkpoint.read({"sliding_window": 128}), uri="hf://a/b")
    with pytest.raises(UnsuitableError) as caught:
        checkpoint.check_window(64, BF16, uri="hf://a/b")
    assert str(caught.value) == (
        "spec.attention.slidingWindow: 64 needs a model whose layers have a sliding window; hf://a/b has none. "
        "Leave it out, or bound the context by spec.model.maxLength."
    )


@pytest.mark.parametrize(
    ("found", "capability"),
    [
        (INT8, (9, 0)),
        (INT8, None),
        (checkpoint.Checkpoint("int8", "compressed-tensors W8A16"), (10, 0)),
        (FP8, (10, 0)),
    ],
)
def test_int8_products_are_for_gpus_before_blackwell(
    found: checkpoint.Checkpoint, capability: tuple[int, int] | None
) -> None:
    checkpoint.check_gpu(found, capability, uri="file:///m")


def test_int8_products_on_blackwell_are_refused_before_anything_is_loaded() -> None:
    with pytest.raises(UnsuitableError) as refusal:
        checkpoint.check_gpu(INT8, (10, 0), uri="file:///m")
    assert str(refusal.value) == (
        "spec.model.uri: file:///m is int8 (compressed-tensors W8A8), and vLLM has no such kernel for GPUs of "
        "compute capability 10.0. Use an fp8 checkpoint, or H100 or older GPUs."
    )


@pytest.mark.parametrize(
    "config",
    [
        {"quantization_config": "fp8"},
        {"quantization_config": ["fp8"]},
        {"text_config": "x"},
        {"quantization_config": {"config_groups": [1]}},
        {"quantization_config": {"config_groups": {"a": {"weights": "x"}}}},
        compressed(bits=4, kind="float", group=[16]),  # type: ignore[arg-type]
        {"layer_types": 5, "sliding_window": 1},
    ],
)
def test_a_malformed_config_is_reported_by_its_parts(
    tmp_path: Path, config: dict[str, Any]
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UnsuitableError, match=r"pvc://m: config\.json is malformed"):
        checkpoint.load(tmp_path, uri="pvc://m")


def test_a_config_nested_without_end_is_reported(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"a":' * 100_000)
    with pytest.raises(EngineError, match=r"config\.json can't be read"):
        checkpoint.load(tmp_path, uri="pvc://m")


@pytest.mark.parametrize("architectures", [5, "LlamaForCausalLM", None, {}])
def test_architectures_that_are_no_list_are_unknown(tmp_path: Path, architectures: object) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architectures": architectures}))
    assert checkpoint.load(tmp_path, uri="pvc://m").architectures == ()


@pytest.mark.parametrize(
    ("params", "kind"),
    [
        ({"dim": 64}, "none"),
        ({"quantization": {"qformat_weight": "fp8_e4m3", "qscheme_act": "TENSOR"}}, "fp8"),
        ({"quantization": {"quant_method": "gptq", "bits": 4}}, "gptq"),
        ({"quantization": "odd"}, "unknown"),
    ],
)
def test_the_quantization_of_mistrals_format_is_read(
    tmp_path: Path, params: dict[str, Any], kind: str
) -> None:
    (tmp_path / "params.json").write_text(json.dumps(params))
    assert checkpoint.load(tmp_path, uri="pvc://m").kind == kind


def test_config_json_wins_over_mistrals_format(tmp_path: Path) -> None:
    (tmp_path / "params.json").write_text('{"quantization": {"qformat_weight": "fp8_e4m3"}}')
    (tmp_path / "config.json").write_text("{}")
    assert checkpoint.load(tmp_path, uri="pvc://m").kind == "none"
