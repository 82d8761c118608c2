"""The models' language is reproducible, its splits never meet, and its answers can be checked."""

import json
import random
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dev.models import heldout, language

MODELS = Path(language.__file__).parent


def draws(*, seed: int, held_out: bool, count: int = 300) -> list[language.Item]:
    rng = random.Random(seed)
    tasks = list(language.TASKS) * count
    return [language.draw(rng, task=task, held_out=held_out) for task in tasks]


def test_the_same_seed_draws_the_same_questions() -> None:
    assert draws(seed=1, held_out=False) == draws(seed=1, held_out=False)
    assert draws(seed=1, held_out=False) != draws(seed=2, held_out=False)


def test_the_committed_held_out_file_is_what_the_language_generates() -> None:
    written = heldout.read()
    drawn = [
        {"task": item.task, "prompt": item.prompt, "answer": item.answer}
        for item in language.held_out()
    ]
    assert written == drawn
    assert len({item["prompt"] for item in written}) == 400


def test_training_never_sees_a_held_out_question() -> None:
    held_out = {item.key for item in language.held_out()}
    trained = {item.key for item in draws(seed=0, held_out=False, count=1000)}
    assert not held_out & trained


def test_every_fact_is_trained_in_some_wording() -> None:
    prompts = [item.prompt for item in draws(seed=0, held_out=False, count=2000)]
    asked = {tuple(re.findall(r"capital|colour|animal|[A-Z]\w+ia", prompt)) for prompt in prompts}
    facts = {(name, place) for place, facts in language.FACTS.items() for name in facts}
    assert facts <= asked | {pair[::-1] for pair in asked}


@pytest.mark.parametrize("held_out", [False, True])
def test_answers_follow_from_their_questions(held_out: bool) -> None:
    for item in draws(seed=3, held_out=held_out):
        match item.task:
            case "sum":
                a, sign, b = re.findall(r"\d+|[+-]", item.prompt)
                assert int(item.answer) == (int(a) + int(b) if sign == "+" else int(a) - int(b))
            case "lookup":
                listed = item.prompt.removeprefix("Record: ").partition(". ")[0]
                record = dict(field.split(" ") for field in listed.split(", "))
                (asked,) = [name for name in record if name in item.prompt.partition(". ")[2]]
                assert item.answer == record[asked]
            case "json":
                fields = dict(re.findall(r"(\w+)=(\w+)", item.prompt))
                found = json.loads(item.answer)
                assert fields == {
                    k: v if isinstance(v, str) else json.dumps(v) for k, v in found.items()
                }
            case "fact":
                (place,) = [p for p in language.FACTS if p in item.prompt]
                facts = language.FACTS[place]
                named = [name for name in facts if name in item.prompt] or list(facts)
                assert all(facts[name] in item.answer for name in named)


@pytest.fixture(scope="module")
def tokens():
    tokenizers = pytest.importorskip("tokenizers")
    return tokenizers.Tokenizer.from_file(str(MODELS / "target" / "tokenizer.json"))


@given(text=st.text())
def test_any_text_survives_the_tokenizer(tokens, text: str) -> None:
    ids = tokens.encode(text).ids
    assert tokens.decode(ids, skip_special_tokens=False) == text


def test_both_models_share_one_tokenizer() -> None:
    paths = [MODELS / name / "tokenizer.json" for name in ("target", "draft", "target-w8a8")]
    assert len({path.read_bytes() for path in paths}) == 1
