"""Distillation by the real TRL on the tiny target, killed in the middle and resumed."""

from pathlib import Path
from typing import Any

import pytest

from tests.support import builders

Results = dict[str, Any]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return builders.run_script(
        Path(__file__).with_name("distilling.py"), tmp_path_factory.mktemp("build")
    )


def test_a_student_of_half_the_layers_comes_nearer_to_its_teacher(results: Results) -> None:
    student = results["whole"]
    assert student["config"]["num_hidden_layers"] == 2
    assert student["of"] > 1.5 * student["parameters"]
    assert results["divergence"]["whole"] < 0.8 * results["divergence"]["untrained"]


def test_a_student_is_written_with_tokenizer_template_and_dtype_of_its_teacher(
    results: Results,
) -> None:
    expected = {"chat_template.jinja", "generation_config.json", "tokenizer.json"}
    assert expected <= set(results["whole"]["files"])
    assert results["whole"]["config"]["dtype"] == "bfloat16"
    assert results["whole"]["config"]["use_cache"] is True


def test_progress_counts_every_step_with_its_loss(results: Results) -> None:
    assert [tick[:2] for tick in results["ticks"]] == [[at, 12] for at in range(1, 13)]
    assert all(tick[2] > 0 for tick in results["ticks"][1:])


def test_a_killed_training_goes_on_and_gives_the_same_bytes(results: Results) -> None:
    assert results["resumed"]["signal"] == 9
    assert results["resumed"]["firstStep"] > 1
    assert results["resumed"]["sha256"] == results["whole"]["sha256"]
    assert results["resumed"]["left"] == []


def test_a_teacher_that_is_killed_goes_on_after_its_last_finished_answers(
    results: Results,
) -> None:
    student = results["answered"]
    assert (student["signal"], student["answered"]) == (9, 64)
    assert student["firstAnswer"] == 48
    assert student["lossLast"] < student["lossFirst"]


def test_a_narrower_student_keeps_grouped_heads_and_tied_embeddings(results: Results) -> None:
    config = results["narrow"]["config"]
    assert (config["hidden_size"], config["head_dim"]) == (64, 32)
    assert (config["num_attention_heads"], config["num_key_value_heads"]) == (4, 2)
    assert (config["intermediate_size"], config["tie_word_embeddings"]) == (128, True)


def test_a_student_learns_from_its_own_answers(results: Results) -> None:
    assert results["onPolicy"]["steps"] == 3
    assert results["onPolicy"]["config"]["num_hidden_layers"] == 3


def test_a_student_with_other_tokens_is_refused(results: Results) -> None:
    assert "Use a student with the teacher's tokenizer" in results["foreign"]


def test_a_length_without_room_for_answers_is_refused(results: Results) -> None:
    assert results["tooShort"].startswith('distill.training.maxLength: "6" leaves no token')
