"""The harder language is reproducible, its splits never meet, and its answers can be checked."""

import random
import re
from pathlib import Path

import pytest

from dev.models import heldout, language, puzzles

MODELS = Path(puzzles.__file__).parent
FILES = {
    "puzzles-heldout.jsonl": puzzles.held_out,
    "puzzles-training.jsonl": puzzles.training,
}


def drawn(*, seed: int, count: int) -> list[language.Item]:
    rng = random.Random(seed)
    return [item for _ in range(count) for item in puzzles.questions(rng, 200)]


def total(text: str) -> str:
    """Compute the only sum of a text, and say it as a text."""
    a, sign, b = re.findall(r"\d+|[+-]", text)
    return str(int(a) + int(b) if sign == "+" else int(a) - int(b))


def test_the_same_seed_draws_the_same_questions() -> None:
    assert drawn(seed=1, count=200) == drawn(seed=1, count=200)
    assert drawn(seed=1, count=200) != drawn(seed=2, count=200)


@pytest.mark.parametrize("name", FILES)
def test_the_committed_files_are_what_the_language_generates(name: str) -> None:
    written = heldout.read(MODELS / name)
    assert written == [
        {"task": item.task, "prompt": item.prompt, "answer": item.answer} for item in FILES[name]()
    ]
    assert len({item["prompt"] for item in written}) == len(written)


def test_training_never_sees_a_held_out_question() -> None:
    held_out = {item.key for item in puzzles.held_out()}
    assert not held_out & {item.key for item in drawn(seed=0, count=20_000)}
    assert not held_out & {item.key for item in puzzles.training()}


def test_every_fact_is_trained_in_some_wording() -> None:
    for person in puzzles.PEOPLE:
        for wordings in puzzles.WORDINGS.values():
            asked = [wording.format(person) for wording in (*wordings, *puzzles.ALL_ABOUT)]
            assert not all(language.Item("person", one, "", one).is_held_out for one in asked)


def test_answers_follow_from_their_questions() -> None:
    for item in (*drawn(seed=3, count=2000), *puzzles.held_out()):
        match item.task:
            case "sum":
                assert item.answer == total(item.prompt)
            case "steps":
                (age,) = re.findall(r"age (\d+)", item.prompt)
                sum_of_age = item.prompt.rpartition("age ")[2].replace("?", "")
                question = f"{age} {sum_of_age}"
                assert item.answer == f"{question} = {total(question)}"
            case "person":
                (person,) = [person for person in puzzles.PEOPLE if person in item.prompt]
                facts = puzzles.PEOPLE[person]
                named = {
                    kind
                    for kind, wordings in puzzles.WORDINGS.items()
                    if item.prompt.replace(person, "{}") in wordings
                }
                assert all(facts[kind] in item.answer for kind in named or facts)
