"""Metrics: the score of one answer."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream_runtime.evaluate.quality import judging, metrics
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
    ],
)
def test_a_schema_is_followed_or_not(text: str, expected: float) -> None:
    item = Item("1", prompt="?", schema=SCHEMA)
    assert score(Name.JSON_SCHEMA, item, text) == expected


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
    [("B", "A", 1.0), ("A", "B", 0.0), ("A", "A", 0.5), ("T", "A", 1.0), ("T", "T", 0.5)],
)
def test_both_orders_decide_a_judgment(forward: str, backward: str, expected: float) -> None:
    found = judging.points(Observation(text=forward), Observation(text=f"{backward}."))
    assert found == expected


def test_a_judge_that_does_not_vote_gives_no_points() -> None:
    assert judging.points(Observation(text="Both are fine"), Observation(text="A")) is None
