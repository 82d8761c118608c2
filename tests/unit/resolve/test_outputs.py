"""Forms of answers that can't be made are told when the object is accepted."""

import json
from typing import Any

import pytest

from slipstream_operator.errors import PermanentError
from slipstream_operator.names import Reason
from tests.support import given

GOOD: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "pattern": "^[a-z]+$"},
        "age": {"type": ["integer", "null"], "minimum": 0},
        "next": {"$ref": "#"},
        "kind": {"$ref": "#/$defs/kind"},
        "multipleOf": {"enum": [1, "a", None]},
        "$ref": {"const": 1},
    },
    "required": ["name"],
    "$defs": {"kind": {"allOf": [{"enum": ["a", "b"]}]}},
}


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(depth):
        schema = {"items": schema}
    return schema


def resolved(**output: Any) -> Any:
    return given.resolved({"model": given.MODEL, "output": output}).revisioned.config["output"]


def refused(**output: Any) -> str:
    with pytest.raises(PermanentError) as refusal:
        resolved(**output)
    assert refusal.value.reason == Reason.INVALID_SPEC
    return str(refusal.value)


@pytest.mark.parametrize("schema", [GOOD, nested(63), {"type": "array", "items": False}])
def test_a_schema_reaches_the_engine_as_it_was_written(schema: dict[str, Any]) -> None:
    text = json.dumps(schema, indent=3)
    assert resolved(schema=text) == {"schema": text, "enforce": False}


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ("{a", '"{a" is not JSON (Expecting property name'),
        ("[" * 10_000, "has more than 64 levels"),
        ("true", "is empty or not an object"),
        ("{}", "is empty or not an object"),
        ('["type"]', "is empty or not an object"),
        (
            {"type": "strin"},
            "is not a JSON Schema (draft 2020-12): 'strin' is not valid",
        ),
        (
            {"properties": {"a": {"minLength": "3"}}},
            "'3' is not of type 'integer' at properties/a/minLength",
        ),
        ({"required": "a"}, "'a' is not of type 'array' at required"),
        (nested(64), "has more than 64 levels"),
        (
            {"items": {"type": ["null", "number"], "multipleOf": 2}},
            "at items: xgrammar does not support multipleOf",
        ),
        (
            {"type": "array", "uniqueItems": True},
            "at the root: xgrammar does not support uniqueItems",
        ),
        ({"$ref": "http://h/s.json"}, '$ref "http://h/s.json" is outside the schema'),
        ({"allOf": [{"type": "string"}, {"minLength": 3}]}, "only one schema in allOf"),
    ],
)
def test_a_schema_that_cannot_be_kept_is_told_with_its_place(
    schema: str | dict[str, Any], message: str
) -> None:
    told = refused(schema=schema if isinstance(schema, str) else json.dumps(schema))
    assert told.startswith("spec.output.schema: ")
    assert message in told
    assert len(told) < 500


@pytest.mark.parametrize(
    "regex",
    [
        "[a-z]+",
        "(?:yes|no)",
        r"\d{3}-\d{4}",
        r"\\b",
        r"[\](?=]*",
        r"[^]*+]+",
        "é+?",
        r"\(\?=",
        r"a\++",
        "[*+]",
    ],
)
def test_a_regex_reaches_the_engine(regex: str) -> None:
    assert resolved(regex=regex)["regex"] == regex


@pytest.mark.parametrize(
    ("regex", "message"),
    [
        ("(a", '"(a" is not a regular expression: missing )'),
        ("a**", "is not a regular expression: multiple repeat"),
        ("a\x00", "NUL character"),
        (
            "(?=a)b",
            "uses lookahead, which xgrammar does not support. Write the expression without it.",
        ),
        ("a(?!b)", "uses lookahead"),
        ("(?<=a)b", "uses lookbehind"),
        ("(?<!a)b", "uses lookbehind"),
        (r"(a)\1", "uses back references"),
        ("(?P<x>a)", "uses named groups"),
        ("(?i)a", "uses flags and special groups"),
        ("(?>a)", "uses flags and special groups"),
        (r"\bword\b", "uses word boundaries"),
        (r"\Aword\Z", "the whole response is always matched"),
        ("a++", "uses possessive repetition"),
        ("(" * 2000 + ")" * 2000, "is not a regular expression"),
    ],
)
def test_a_regex_that_cannot_be_kept_is_told(regex: str, message: str) -> None:
    told = refused(regex=regex)
    assert told.startswith("spec.output.regex: ")
    assert message in told
    assert len(told) < 300


def test_stops_and_a_grammar_reach_the_engine() -> None:
    output = {"grammar": 'root ::= "a"', "stop": ["END"], "enforce": True}
    assert resolved(**output) == output
