"""Metrics: the score of one answer."""

import json
import math
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score import rouge_scorer

from slipstream_runtime.errors import UnsuitableError
from slipstream_runtime.evaluate.quality import judging, metrics, schemas
from slipstream_runtime.evaluate.quality.items import Item
from slipstream_runtime.evaluate.quality.metrics import METRICS, Name
from slipstream_runtime.evaluate.quality.observations import Observation

CITY = Item("1", prompt="Capital of France?", references=("Paris", "the city of Paris"))
SCHEMA = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}


def score(name: Name, item: Item, text: str) -> float:
    found = METRICS[name].score
    assert found is not None
    return found(item, Observation(text=text))


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        (Name.EXACT_MATCH, " Paris\n", 1.0),
        (Name.EXACT_MATCH, "paris", 0.0),
        (Name.F1, "paris.", 1.0),
        (Name.F1, "It is Paris", 0.5),
        (Name.F1, "", 0.0),
        (Name.ROUGE, "Paris", 1.0),
        (Name.ROUGE, "London", 0.0),
        (Name.BLEU, "the city of Paris", 1.0),
        (Name.BLEU, "London", 0.0),
    ],
)
def test_an_answer_is_scored_by_its_best_reference(name: Name, text: str, expected: float) -> None:
    assert score(name, CITY, text) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"age": 3}', 1.0),
        ('```json\n{"age": 3}\n```', 1.0),
        ('{"age": "3"}', 0.0),
        ("{}", 0.0),
        ("age 3", 0.0),
        ("[" * 100_000, 0.0),
        ('{"age": NaN}', 0.0),
        ('{"age": 3} and more', 0.0),
    ],
)
def test_a_schema_is_followed_or_not(text: str, expected: float) -> None:
    item = Item("1", prompt="?", schema=SCHEMA)
    assert score(Name.JSON_SCHEMA, item, text) == expected


def test_the_schema_of_an_item_fetches_nothing_and_its_parts_are_found() -> None:
    parts = {
        "$id": "https://example.com/root",
        "$ref": "parts/age",
        "$defs": {"a": {"$id": "parts/age", "type": "integer"}},
    }
    assert schemas.fault(parts) is None
    assert schemas.follows("3", parts)
    assert not schemas.follows('"3"', parts)


@pytest.mark.parametrize(
    "schema",
    [
        {"pattern": "^(a|aa)+$"},
        {"patternProperties": {"^(a|aa)+$": {}}},
        {"patternProperties": {"^(a|aa)+$": False}, "additionalProperties": False},
        {"items": {"pattern": "^(a|aa)+$"}},
    ],
)
def test_a_pattern_that_takes_too_long_ends_the_run_and_hangs_nothing(
    schema: dict[str, Any],
) -> None:
    slow = "a" * 60 + "b"
    texts = [json.dumps(answer) for answer in (slow, {slow: 1}, [slow])]
    assert schemas.fault(schema) is None
    with pytest.raises(UnsuitableError, match="takes longer than"):
        for text in texts:
            schemas.follows(text, schema)


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"pattern": "^a+$"}, '"aa"', '"ab"'),
        ({"patternProperties": {"^n": {"type": "integer"}}}, '{"n1": 1}', '{"n1": "1"}'),
        (
            {
                "properties": {"a": {}},
                "patternProperties": {"^n": {}},
                "additionalProperties": False,
            },
            '{"a": 1, "n2": 1}',
            '{"b": 1}',
        ),
        ({"additionalProperties": {"type": "string"}}, '{"x": "1"}', '{"x": 1}'),
    ],
)
def test_patterns_mean_what_they_mean_to_jsonschema(
    schema: dict[str, Any], good: str, bad: str
) -> None:
    for text, expected in ((good, True), (bad, False)):
        assert jsonschema.Draft202012Validator(schema).is_valid(json.loads(text)) is expected
        assert schemas.follows(text, schema) is expected


@pytest.mark.parametrize(
    "likelihoods",
    [
        (),
        ((-1.0, 1, True),),
        ((math.nan, 1, True), (-2.0, 1, False)),
        ((-math.inf, 1, False), (-math.inf, 1, False)),
        ((0.0, 0, True), (-2.0, 1, False)),
    ],
)
def test_a_choice_without_all_likelihoods_is_wrong_and_not_the_first(
    likelihoods: tuple[tuple[float, int, bool], ...],
) -> None:
    item = Item("1", prompt="?", choices=("a", "b"), references=("a",), answer=0)
    choose = METRICS[Name.CHOICE].score
    assert choose is not None
    assert choose(item, Observation(likelihoods=likelihoods)) == 0.0


@pytest.mark.parametrize("name", [Name.ROUGE, Name.F1])
@pytest.mark.parametrize(
    ("reference", "answer"),
    [
        ("Москва — столица России", "Париж"),
        ("東京は日本の首都です", "大阪"),
        ("القاهرة عاصمة مصر", "باريس"),
        ("दिल्ली भारत की राजधानी है", "मुंबई"),
        ("A", ""),
        ("the", "a"),
        ("!", "?"),
    ],
)
def test_words_of_every_script_count(name: Name, reference: str, answer: str) -> None:
    if name is Name.ROUGE and len(reference) < 2:
        return  # rouge-score has no words in it
    item = Item("1", prompt="?", references=(reference,))
    assert score(name, item, reference) == 1.0
    assert score(name, item, answer) == 0.0


@given(
    st.text(alphabet=st.characters(codec="ascii")), st.text(alphabet=st.characters(codec="ascii"))
)
def test_rouge_of_ascii_is_that_of_rouge_score(reference: str, answer: str) -> None:
    theirs = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=True).score(reference, answer)
    item = Item("1", prompt="?", references=(reference,))
    assert score(Name.ROUGE, item, answer) == pytest.approx(theirs["rougeL"].fmeasure)


def test_the_likeliest_choice_counts() -> None:
    item = Item("1", prompt="?", choices=("a", "b"), references=("b",), answer=1)
    choose = METRICS[Name.CHOICE].score
    assert choose is not None
    assert choose(item, Observation(likelihoods=((-4.0, 1, False), (-1.0, 1, True)))) == 1.0
    assert choose(item, Observation(likelihoods=((-1.0, 1, True), (-4.0, 1, False)))) == 0.0


def test_agreement_ends_at_the_first_difference() -> None:
    before = Observation(tokens=("a", "b", "c", "d"))
    assert metrics.agreement(before, before) == 1.0
    assert metrics.agreement(before, Observation(tokens=("a", "x", "c", "d"))) == 0.25
    assert metrics.agreement(before, Observation(tokens=("a", "b"))) == 0.5
    assert metrics.agreement(Observation(), Observation()) == 1.0


def test_answers_without_tokens_agree_only_if_they_are_equal() -> None:
    assert metrics.agreement(Observation(text="a"), Observation(text="b")) == 0.0


def test_first_tokens_that_have_nothing_in_common_diverge() -> None:
    before = Observation(first={str(n): math.log(0.05) for n in range(20)})
    after = Observation(first={f"x{n}": math.log(0.05 if n else 0.04) for n in range(20)})
    found = metrics.divergence(before, after)
    assert found is not None
    assert found > 3


@given(st.integers(0, 10_000))
def test_the_divergence_of_listed_tokens_is_never_above_that_of_all(seed: int) -> None:
    random = np.random.default_rng(seed)
    left, right = random.dirichlet(np.full(60, 0.3), size=2) + 1e-7
    left, right = left / left.sum(), right / right.sum()

    def listed(shares: np.ndarray) -> Observation:
        return Observation(first={str(n): math.log(shares[n]) for n in np.argsort(-shares)[:20]})

    found = metrics.divergence(listed(left), listed(right))
    assert found is not None
    assert found <= float((left * np.log(left / right)).sum()) + 1e-6


@given(st.lists(st.floats(0.01, 1), min_size=2, max_size=6), st.data())
def test_the_divergence_is_at_least_zero_and_zero_for_the_same(
    weights: list[float], data: st.DataObject
) -> None:
    others = data.draw(st.lists(st.floats(0.01, 1), min_size=len(weights), max_size=len(weights)))

    def seen(values: list[float]) -> Observation:
        total = sum(values)
        return Observation(first={str(n): math.log(v / total) for n, v in enumerate(values)})

    found = metrics.divergence(seen(weights), seen(others))
    same = metrics.divergence(seen(weights), seen(weights))
    assert found is not None
    assert found >= 0
    assert same == pytest.approx(0, abs=1e-6)


def test_the_divergence_is_unknown_without_distributions() -> None:
    assert metrics.divergence(Observation(), Observation()) is None


@pytest.mark.parametrize(
    ("forward", "backward", "expected"),
    [("B", "A", 1.0), ("A", "B", 0.0), ("T", "A", 1.0), ("T", "T", 0.5), ("b", "**A**", 1.0)],
)
def test_both_orders_decide_a_judgment(forward: str, backward: str, expected: float) -> None:
    found = judging.points(Observation(text=forward), Observation(text=f"{backward}."))
    assert found == expected


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "Both are fine",
        "A closer look shows that B is better",
        "That depends",
        "I would say B",
        "AB",
        "C",
    ],
)
def test_a_judge_that_does_not_vote_gives_no_points(reply: str) -> None:
    assert judging.points(Observation(text=reply), Observation(text="A")) is None


@pytest.mark.parametrize("place", ["A", "B"])
def test_a_judge_that_prefers_a_place_gives_no_points(place: str) -> None:
    assert judging.points(Observation(text=place), Observation(text=place)) is None


@pytest.mark.parametrize(
    "reply", ["B", "B.", "b", " B\n", "Answer B is better", "Answer: B", "[[B]]", "B: it is right"]
)
def test_usual_forms_of_a_vote_are_read(reply: str) -> None:
    assert judging.points(Observation(text=reply), Observation(text="A")) == 1.0
