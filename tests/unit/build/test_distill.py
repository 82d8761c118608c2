"""Distillations that can't work, and costs of those that can."""

from typing import Any, get_args

import pytest

from slipstream_runtime import build_support
from slipstream_runtime.build.recipe import Step
from slipstream_runtime.build.steps import distill
from slipstream_runtime.build.steps.step import Checkpoint

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "num_hidden_layers": 32,
    "hidden_size": 4096,
    "vocab_size": 128_256,
    "num_attention_heads": 32,
}
TEACHER = Checkpoint(bytes=16 * 10**9, parameters=8 * 10**9, config=CONFIG)


def step(student: Any, **fields: Any) -> Step:
    training = {"dataset": {"uri": "/data/train.jsonl"}, "samples": 1000}
    return Step.model_validate({"distill": {"student": student, "training": training} | fields})


def refusal(student: Any, device: build_support.Device = "cuda", **fields: Any) -> str:
    return distill.refuse(step(student, **fields), TEACHER, device) or ""


def test_a_smaller_student_is_accepted() -> None:
    for student in ({"layers": 16}, {"layers": 32, "hidden": 2048}, "hf://org/small"):
        assert not refusal(student)


@pytest.mark.parametrize(
    ("student", "start", "remedy"),
    [
        ({"layers": 33}, 'distill.student.layers: "33"', "Use at most 32."),
        ({"layers": 4, "hidden": 8192}, 'distill.student.hidden: "8192"', "Use at most 4096."),
        ({"layers": 32}, 'distill.student.layers: "32"', "Use fewer layers, or a smaller hidden."),
        ({"layers": 4, "hidden": 1000}, 'distill.student.hidden: "1000"', "Use 992."),
    ],
)
def test_an_impossible_shape_is_refused_with_a_remedy(
    student: dict[str, int], start: str, remedy: str
) -> None:
    reason = refusal(student)
    assert reason.startswith(start)
    assert reason.endswith(remedy)


def test_no_student_is_cut_out_of_quantized_weights() -> None:
    quantized = Checkpoint(
        bytes=1, parameters=1, config=CONFIG | {"quantization_config": {"quant_method": "awq"}}
    )
    reason = distill.refuse(step({"layers": 4}), quantized, "cuda")
    assert reason is not None
    assert "quantized already" in reason


def test_a_head_is_refused_with_what_works_instead() -> None:
    head: dict[str, Any] = {"speculator": "eagle3", "purpose": "Draft"}
    for device in get_args(build_support.Device):
        reason = refusal({"layers": 1}, device, **head)
        assert reason.startswith('distill.speculator: "eagle3"')
        assert reason.endswith("Leave it out to train a whole draft model.")


def test_a_task_of_the_harness_has_nothing_to_train_on() -> None:
    reason = refusal({"layers": 4}, training={"dataset": {"task": "gsm8k"}})
    assert reason.startswith('distill.training.dataset.task: "gsm8k"')


def test_a_smaller_student_costs_less() -> None:
    half = distill.estimate(step({"layers": 16}), TEACHER, "cuda")
    whole = distill.estimate(step("hf://org/other"), TEACHER, "cuda")
    narrow = distill.estimate(step({"layers": 16, "hidden": 2048}), TEACHER, "cuda")
    assert narrow.memory < half.memory < whole.memory
    assert narrow.disk < half.disk < whole.disk
    assert narrow.seconds < half.seconds < whole.seconds
    # Weights of the teacher in bfloat16, and of the student with gradients and moments in float32.
    assert half.memory > 8e9 * 2 + 4e9 * 16
