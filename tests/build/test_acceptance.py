"""Accepted tokens of drafts, by the real vLLM."""

from pathlib import Path

import pytest

from dev.models import heldout
from slipstream_runtime.build import acceptance
from slipstream_runtime.errors import EngineError, UnsuitableError
from slipstream_runtime.evaluate.quality.items import Item

MODELS = Path(heldout.__file__).parent
SETTINGS = acceptance.Speculation(device="cpu", max_length=1024)


def test_the_engine_counts_what_the_target_accepts_of_its_draft() -> None:
    pytest.importorskip("vllm")
    questions = [Item(name=str(at), prompt=q["prompt"]) for at, q in enumerate(heldout.read()[::8])]
    found = acceptance.measure(MODELS / "target", MODELS / "draft", questions, SETTINGS)
    assert found.drafted == 3 * found.steps
    assert 0.7 < found.acceptance < 1
    # The target accepts draft tokens after the end of an answer, too, which are dropped.
    assert 2.5 < found.tokens_per_step <= 1 + 3 * found.acceptance + 1e-9


def test_texts_without_questions_measure_no_draft() -> None:
    with pytest.raises(UnsuitableError, match="has no questions"):
        acceptance.measure(MODELS, MODELS, [Item(name="1", text="A text.")], SETTINGS)


def test_an_engine_that_fails_ends_with_its_last_lines(tmp_path: Path) -> None:
    question = [Item(name="1", prompt="Hello?")]
    with pytest.raises(EngineError, match=r"vLLM could not run the draft.*config\.json"):
        acceptance.measure(tmp_path, MODELS / "draft", question, SETTINGS)
