"""Chains of steps: each one is planned with the shape that the steps before it leave."""

from pathlib import Path
from typing import Any

import pytest

from slipstream_runtime.build import plan, succession
from slipstream_runtime.build.recipe import Step
from slipstream_runtime.build.steps import registry
from slipstream_runtime.build.steps.step import Checkpoint
from slipstream_runtime.errors import UnsuitableError
from tests.support import builds

QWEN = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 32,
    "vocab_size": 806,
}
SOURCE = Checkpoint(bytes=1 << 21, parameters=1 << 20, config=QWEN)
DATA = {"dataset": {"uri": "items.jsonl"}, "samples": 8, "maxLength": 64}


def after(step: dict[str, Any]) -> dict[str, Any]:
    config = succession.after(Step.model_validate(step), SOURCE).config
    return {name: value for name, value in config.items() if value != QWEN.get(name)}


@pytest.mark.parametrize(
    ("step", "changes"),
    [
        ({"quantize": {"scheme": "w8a8"}}, {}),
        ({"prune": {"layers": 0.25, "calibration": DATA}}, {"num_hidden_layers": 3}),
        ({"prune": {"channels": 0.25, "calibration": DATA}}, {"intermediate_size": 384}),
        (
            {"prune": {"heads": 0.5, "calibration": DATA}},
            {"num_key_value_heads": 2, "num_attention_heads": 4},
        ),
        ({"distill": {"student": {"layers": 2}, "training": DATA}}, {"num_hidden_layers": 2}),
        (
            {"distill": {"student": {"layers": 2, "hidden": 128}, "training": DATA}},
            {
                "num_hidden_layers": 2,
                "hidden_size": 128,
                "intermediate_size": 256,
                "num_key_value_heads": 2,
                "num_attention_heads": 4,
            },
        ),
        ({"distill": {"student": "hf://org/small", "training": DATA}}, {}),
    ],
)
def test_a_step_changes_these_sizes(step: dict[str, Any], changes: dict[str, Any]) -> None:
    assert after(step) == changes


def planned(folder: Path, source: Checkpoint, *steps: dict[str, Any]) -> plan.Plan:
    room = plan.Machine(memory=None, disk=None)
    return plan.plan(
        builds.recipe(folder, steps=list(steps)), source, machine=room, module=registry.module
    )


def test_groups_that_do_not_divide_what_a_prune_leaves_are_refused_before_the_prune(
    tmp_path: Path,
) -> None:
    w4a16 = {"quantize": {"scheme": "w4a16"}}
    assert planned(tmp_path, SOURCE, w4a16)
    with pytest.raises(
        UnsuitableError, match=r"steps\[1\].*groups of 128 inputs do not divide 448"
    ):
        planned(tmp_path, SOURCE, {"prune": {"channels": 0.125, "calibration": DATA}}, w4a16)


def test_a_narrow_student_may_be_quantized_though_its_teacher_may_not(tmp_path: Path) -> None:
    wide = Checkpoint(
        bytes=1, parameters=1, config=QWEN | {"hidden_size": 320, "intermediate_size": 640}
    )
    student = {"distill": {"student": {"layers": 2, "hidden": 128}, "training": DATA}}
    with pytest.raises(UnsuitableError, match="do not divide 320"):
        planned(tmp_path, wide, {"quantize": {"scheme": "w4a16"}})
    assert planned(tmp_path, wide, student, {"quantize": {"scheme": "w4a16", "ignore": []}})


def test_layers_that_are_already_gone_are_not_pruned_a_second_time(tmp_path: Path) -> None:
    one = {"prune": {"layers": 0.75, "calibration": DATA}}
    with pytest.raises(UnsuitableError, match=r"steps\[1\].*the model has 1 layers"):
        planned(tmp_path, SOURCE, one, one)
