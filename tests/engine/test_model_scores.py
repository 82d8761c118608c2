"""The committed weights answer held-out questions, in PyTorch and quantized in vLLM."""

from pathlib import Path

import pytest

from dev.models import heldout, served

pytest.importorskip("transformers")
score = pytest.importorskip("dev.models.score")

MODELS = Path(score.__file__).parent


def test_the_committed_weights_answer_held_out_questions() -> None:
    counts = score.score(MODELS / "target", items=heldout.read())
    assert all(right / asked >= 0.9 for right, asked in counts.values()), counts


def test_the_committed_solver_answers_as_its_page_says() -> None:
    """Schemes of builds are told apart by what it gets wrong, so it must be neither too bad nor too good."""
    counts = score.score(MODELS / "solver", items=heldout.read(score.PUZZLES))
    right, asked = counts["all"]
    assert 0.93 <= right / asked <= 0.97, counts
    assert all(right / asked >= 0.85 for right, asked in counts.values()), counts


def test_vllm_serves_the_target_in_int8() -> None:
    """The draft and fp8 are measured where an engine of ours has them."""
    pytest.importorskip("vllm")
    items = heldout.read()[::2]
    # NB: vLLM refuses int8 of float32 on CPUs that have AMX.
    answers = served.answers(
        (item["prompt"] for item in items), model=str(MODELS / "target-w8a8"), dtype="bfloat16"
    )
    right, asked = score.tally(items, answers)["all"]
    assert right / asked >= 0.9
