"""Pruning that can't work, and what stays of a model."""

from typing import Any

import pytest

from slipstream_runtime.build.recipe import Step
from slipstream_runtime.build.steps import prune
from slipstream_runtime.build.steps.step import Checkpoint

CONFIG: dict[str, Any] = {
    "architectures": ["Qwen3ForCausalLM"],
    "num_hidden_layers": 36,
    "hidden_size": 4096,
    "vocab_size": 151_936,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 12_288,
    "model_type": "qwen3",
}
SOURCE = Checkpoint(bytes=16 * 10**9, parameters=8 * 10**9, config=CONFIG)
DATA = {"dataset": {"uri": "/data/texts.jsonl"}, "samples": 128}


def step(**fields: Any) -> Step:
    return Step.model_validate({"prune": {"calibration": DATA} | fields})


@pytest.mark.parametrize("name", ["layers", "heads", "channels"])
def test_a_quarter_of_a_part_can_be_pruned(name: str) -> None:
    assert prune.refuse(step(**{name: 0.25}), SOURCE, "cpu") is None


@pytest.mark.parametrize(
    ("fields", "start", "remedy"),
    [
        ({}, "prune: nothing", "exactly one of layers, heads and channels."),
        ({"layers": 0.2, "heads": 0.2}, "prune: layers and heads", "layers, heads and channels."),
        ({"layers": 0.01}, 'prune.layers: "1%" removes nothing', "Use a greater share"),
        ({"layers": 0.005}, 'prune.layers: "0.5%" removes nothing', "Use a greater share"),
        ({"heads": 0.05}, 'prune.heads: "5%" removes nothing', "Use a greater share"),
        (
            {"layers": 0.5, "calibration": {"dataset": {"task": "gsm8k"}}},
            'prune.calibration.dataset.task: "gsm8k"',
            "Use uri.",
        ),
    ],
)
def test_what_removes_nothing_or_too_much_is_refused_with_a_remedy(
    fields: dict[str, Any], start: str, remedy: str
) -> None:
    reason = prune.refuse(step(**fields), SOURCE, "cpu") or ""
    assert reason.startswith(start)
    assert remedy in reason


def test_a_number_of_heads_that_transformers_does_not_take_is_refused_with_those_it_takes() -> None:
    llama = Checkpoint(
        bytes=1,
        parameters=1,
        config=CONFIG | {"model_type": "llama", "architectures": ["LlamaForCausalLM"]},
    )
    reason = prune.refuse(step(heads=0.25), llama, "cpu")
    assert reason is not None
    assert "24 heads that stay don't divide the width of 4096" in reason
    assert reason.endswith("Use 87.5% or 75% or 50%.")
    assert prune.refuse(step(heads=0.5), llama, "cpu") is None


def test_encoders_and_quantized_weights_are_refused() -> None:
    for config in (
        CONFIG | {"architectures": ["BertModel"]},
        CONFIG | {"quantization_config": {"quant_method": "awq"}},
    ):
        source = Checkpoint(bytes=1, parameters=1, config=config)
        reason = prune.refuse(step(layers=0.5), source, "cpu") or ""
        assert reason.startswith("prune: ") and "can't work because" in reason


def test_at_least_one_part_stays_and_channels_stay_in_multiples() -> None:
    assert prune.kept(4, 0.99, "layers") == 1
    assert prune.kept(36, 0.25, "layers") == 27
    assert prune.kept(12_288, 0.3, "channels") == 8608
    assert prune.kept(12_288, 0.3, "channels") % 32 == 0


def test_healing_and_single_layers_cost_more() -> None:
    plain = prune.estimate(step(channels=0.25), SOURCE, "cpu")
    healed = prune.estimate(step(channels=0.25, heal=DATA), SOURCE, "cpu")
    layers = prune.estimate(step(layers=0.25), SOURCE, "cpu")
    assert plain.memory < healed.memory
    assert plain.disk < healed.disk
    assert plain.seconds < min(healed.seconds, layers.seconds)
