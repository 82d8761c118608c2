"""Refusals and estimates of `quantize`, before anything is loaded."""

from typing import Any

import pytest

from slipstream_runtime import build_support
from slipstream_runtime.build.recipe import Step
from slipstream_runtime.build.steps import quantize
from slipstream_runtime.build.steps.step import Checkpoint

CALIBRATION = {"dataset": {"uri": "items.jsonl"}, "samples": 64, "maxLength": 256}
LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "head_dim": 32,
    "vocab_size": 806,
    "tie_word_embeddings": False,
}


def source(**changes: Any) -> Checkpoint:
    return Checkpoint(bytes=2_123_064, parameters=1_059_456, config=LLAMA | changes)


def step(**fields: Any) -> Step:
    return Step.model_validate({"quantize": {"scheme": "w8a8"} | fields})


def test_what_the_table_refuses_is_refused_with_its_reason() -> None:
    refusal = quantize.refuse(
        step(scheme="w4a16", method="awq", calibration=CALIBRATION), source(), "cpu"
    )
    assert refusal is not None
    assert refusal.startswith('quantize.scheme: "w4a16" by "awq" can\'t work because ')
    assert "Use gptq" in refusal
    assert (
        quantize.refuse(
            step(scheme="w4a16", method="awq", calibration=CALIBRATION), source(), "cuda"
        )
        is None
    )


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"method": "gptq"}, "gptq"),
        ({"method": "smoothquant"}, "smoothquant"),
        ({"kvCache": "fp8"}, "kvCache fp8"),
    ],
)
def test_what_measures_activations_needs_a_dataset(fields: dict[str, Any], name: str) -> None:
    refusal = quantize.refuse(step(**fields), source(), "cpu")
    assert refusal is not None
    assert f"because {name} is computed from activations. Name a dataset." in refusal
    assert quantize.refuse(step(**fields, calibration=CALIBRATION), source(), "cpu") is None


@pytest.mark.parametrize("scheme", ["fp8-static", "nvfp4"])
def test_schemes_with_scales_of_activations_need_a_dataset(scheme: build_support.Scheme) -> None:
    refusal = quantize.refuse(step(scheme=scheme), source(), "cuda")
    assert refusal is not None
    assert f"because {scheme} is computed from activations" in refusal


def test_groups_that_do_not_divide_a_layer_are_refused() -> None:
    refusal = quantize.refuse(step(scheme="w4a16"), source(hidden_size=64, head_dim=16), "cpu")
    assert refusal is not None
    assert "groups of 128 inputs do not divide 64" in refusal
    assert refusal.endswith("Use w8a8, or name the layer in ignore.")
    assert quantize.refuse(step(), source(hidden_size=64, head_dim=16), "cpu") is None


def test_a_layer_that_is_ignored_may_have_any_size() -> None:
    narrow = source(intermediate_size=200)
    assert quantize.refuse(step(scheme="w4a16"), narrow, "cpu") is not None
    ignore = ["lm_head", "re:.*down_proj"]
    assert quantize.refuse(step(scheme="w4a16", ignore=ignore), narrow, "cpu") is None


def test_mixtures_of_experts_are_refused_where_vllm_serves_none_quantized() -> None:
    mixture = source(num_experts=128)
    refusal = quantize.refuse(step(), mixture, "cpu")
    assert refusal is not None
    assert "no kernel for quantized experts on CPUs" in refusal
    assert quantize.refuse(step(), mixture, "cuda") is None


def test_layers_that_vllm_merges_are_ignored_together() -> None:
    refusal = quantize.refuse(step(ignore=["re:.*q_proj"]), source(), "cpu")
    assert refusal is not None
    assert "merges self_attn.q_proj, self_attn.k_proj, self_attn.v_proj into one layer" in refusal
    assert quantize.refuse(step(ignore=["re:.*self_attn"]), source(), "cpu") is None


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"quantization_config": {"quant_method": "gptq"}}, "is quantized already, by gptq. Use"),
        ({"auto_map": {"AutoModel": "modeling.Model"}}, "run no code of a checkpoint"),
        ({"vision_config": {}}, "builds know text alone"),
    ],
)
def test_checkpoints_that_no_step_can_change_are_refused(
    config: dict[str, Any], words: str
) -> None:
    refusal = quantize.refuse(step(), source(**config), "cpu")
    assert refusal is not None
    assert words in refusal


@pytest.mark.parametrize(
    ("scheme", "measured"), [("w8a8", 1_285_336), ("w4a16", 864_760), ("fp8", 1_285_480)]
)
def test_the_estimated_size_is_that_of_the_real_file(
    scheme: build_support.Scheme, measured: int
) -> None:
    expected = quantize.estimate(step(scheme=scheme), source(), "cpu")
    assert expected.disk == pytest.approx(measured, rel=0.02)


def test_memory_grows_with_weights_samples_and_hessians() -> None:
    large = Checkpoint(
        bytes=16_000_000_000,
        parameters=8_000_000_000,
        config=LLAMA | {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32},
    )
    plain = quantize.estimate(step(), large, "cpu")
    calibrated = quantize.estimate(step(method="gptq", calibration=CALIBRATION), large, "cpu")
    assert plain.memory > 24_000_000_000
    assert calibrated.memory - plain.memory > 4 * 4 * 14336**2
    assert calibrated.seconds > 10 * plain.seconds
    assert quantize.estimate(step(), large, "cuda").memory < 4_000_000_000


def test_a_pattern_that_is_no_expression_is_refused() -> None:
    refusal = quantize.refuse(step(ignore=["lm_head", "re:("]), source(), "cpu")
    assert refusal == (
        'quantize.ignore: "re:(" can\'t work because it is no regular expression. Correct it.'
    )
