"""Datasets: good lines become items, bad lines are named by number."""

import json

import pytest

from slipstream_runtime.errors import UnsuitableError
from slipstream_runtime.evaluate.quality import items


def parse(*lines: object, **fields: str) -> tuple[items.Item, ...]:
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    return items.parse(texts, fields=fields, source="dataset d.jsonl")


def test_a_line_becomes_an_item() -> None:
    (first, second) = parse(
        {"prompt": "1+1?", "reference": ["2", "two"], "task": "sum", "source": "book"},
        {"id": "b", "messages": [{"role": "user", "content": "hi"}], "slice": "chat"},
    )
    assert (first.name, first.slice, first.references) == ("1", "sum", ("2", "two"))
    assert first.conversation == ({"role": "user", "content": "1+1?"},)
    assert (second.name, second.slice) == ("b", "chat")


def test_a_dataset_may_name_its_fields_otherwise() -> None:
    (item,) = parse({"question": "1+1?", "answer": 2}, prompt="question", reference="answer")
    assert (item.prompt, item.references) == ("1+1?", ("2",))


def test_the_right_choice_is_the_one_that_the_reference_names() -> None:
    (item,) = parse({"prompt": "?", "choices": ["a", "b"], "reference": "b"})
    assert item.answer == 1


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "is not JSON"),
        ([], "is not a JSON object"),
        ({"reference": "x"}, "has no prompt, messages or text"),
        ({"prompt": "x", "text": "y"}, "has prompt and text"),
        ({"prompt": ""}, "prompt is not a text"),
        ({"prompt": {"a": 1}}, "prompt is not a text"),
        ({"messages": []}, "messages is not a list"),
        ({"messages": [{"role": "pope", "content": "x"}]}, "without a known role"),
        ({"messages": [{"role": "user", "content": None}]}, "without a known role"),
        ({"prompt": "x", "choices": ["a", "b"]}, "has 0 choices that equal its reference"),
        ({"prompt": "x", "choices": ["a", "a"], "reference": "a"}, "has 2 choices"),
        ({"prompt": "x", "schema": "y"}, "schema is not a JSON object"),
        ({"prompt": "x", "reference": [None, 3]}, "reference is not a text"),
    ],
)
def test_a_bad_line_is_named_with_its_reason(line: object, reason: str) -> None:
    with pytest.raises(UnsuitableError, match=r"dataset d\.jsonl: line 2: ") as found:
        parse({"prompt": "fine"}, line)
    assert reason in str(found.value)


def test_of_many_bad_lines_the_first_are_named_and_the_rest_counted() -> None:
    with pytest.raises(UnsuitableError) as found:
        parse(*["{"] * 9)
    assert "line 5:" in str(found.value)
    assert "line 6:" not in str(found.value)
    assert "4 more lines are bad." in str(found.value)


def test_names_must_be_unique() -> None:
    with pytest.raises(UnsuitableError, match='id "a" occurs twice'):
        parse({"id": "a", "prompt": "x"}, {"id": "a", "prompt": "y"})


def test_an_empty_file_is_refused() -> None:
    with pytest.raises(UnsuitableError, match="has no items"):
        parse("", "  ")
