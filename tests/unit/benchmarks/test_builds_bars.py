"""`make bench-builds`: which figures miss their target."""

import math

import pytest

from benchmarks.builds import bars

GOOD = {
    "w8a8_kept": 0.99,
    "w4a16_gptq_kl": 0.0018,
    "w4a16_rtn_kl": 0.0037,
    "sparse_raw_kept": 0.72,
    "sparse_healed_kept": 0.99,
    "sparse_healed_right": 0.99,
    "sparse_easy_raw_kept": 0.9,
    "sparse_easy_healed_kept": 0.98,
    "student_kept": 0.9,
    "scratch_kept": 0.4,
    "draft_tokens_per_step_before": 2.5,
    "draft_tokens_per_step_after": 2.8,
    "broken_refused": 1.0,
    "broken_size": 0.41,
    "ruined_refused": 1.0,
    "onnx_difference": 1e-3,
    "resumed_after_kill": 1.0,
}


def test_figures_at_their_targets_miss_none() -> None:
    assert bars.missed(GOOD) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("w8a8_kept", 0.989),
        ("w4a16_gptq_kl", 0.0037),
        ("sparse_raw_kept", 0.99),
        ("sparse_healed_kept", 0.98),
        ("sparse_healed_right", 0.98),
        ("sparse_easy_raw_kept", 0.98),
        ("student_kept", 0.4),
        ("draft_tokens_per_step_after", 2.5),
        ("broken_refused", 0.0),
        ("broken_size", 1.0),
        ("ruined_refused", 0.0),
        ("onnx_difference", 1.1e-3),
        ("onnx_difference", math.nan),
        ("resumed_after_kill", 0.0),
    ],
)
def test_a_figure_beyond_its_target_is_named_with_its_value(name: str, value: float) -> None:
    (sentence, *_) = bars.missed(GOOD | {name: value})
    assert sentence.startswith(f"{name} is {value:g}")
    assert "target:" in sentence


def test_a_comparison_names_both_figures() -> None:
    (sentence,) = bars.missed(GOOD | {"student_kept": 0.3})
    assert sentence == "student_kept is 0.3, scratch_kept is 0.4; target: more than scratch_kept."


def test_figures_that_are_not_measured_are_not_judged() -> None:
    assert bars.missed({"w4a16_gptq_kl": 5.0}) == []
    assert bars.missed({}) == []
