"""Structure of large bodies: counted part by part, the same wherever the parts begin."""

import json
import random
import sys
from typing import Any

import orjson
import pytest

from slipstream_runtime.router.messages.structure import Structure, parsed_size
from slipstream_runtime.web import body
from slipstream_runtime.web.refusal import Refusal
from slipstream_runtime.web.turns import LARGE

TEXTS = [
    'a "quoted" text',
    "back\\slash\\",
    "[{not a list",
    "ünï",
    "漢字" * 400,
    "😀",
    "\x00\x1f",
    "é" * 2000,
]


def counted(raw: bytes, *, part: int) -> Structure:
    structure = Structure()
    for at in range(0, len(raw), part):
        structure.add(raw[at : at + part])
    return structure


def memory(value: Any) -> int:
    """Return the bytes of a parsed value, without those of texts and numbers that all values share."""
    size = sys.getsizeof(value)
    if isinstance(value, dict):
        return size + sum(memory(key) + memory(each) for key, each in value.items())
    if isinstance(value, list):
        return size + sum(map(memory, value))
    return size


def some_value(chance: random.Random, depth: int = 0) -> Any:
    kind = chance.randrange(8 if depth < 5 else 5)
    if kind == 0:
        return chance.choice(TEXTS) * chance.randrange(4)
    if kind < 5:
        return chance.choice([0, 1.5, True, None, "x", TEXTS[chance.randrange(len(TEXTS))]])
    items = [some_value(chance, depth + 1) for _ in range(chance.randrange(6))]
    return items if kind < 7 else {f"f{n} {TEXTS[n % 3]}": each for n, each in enumerate(items)}


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("escaped", [True, False])
def test_parts_of_any_size_are_counted_as_one(seed: int, escaped: bool) -> None:
    content = [some_value(random.Random(seed)) for _ in range(10)]
    raw = json.dumps(content, ensure_ascii=escaped).encode()
    depth = next(n for n in range(1, 20) if not counted(raw, part=len(raw)).deeper(than=n))
    for part in (1, 2, 3, 7, 64):
        found = counted(raw, part=part)
        assert not found.deeper(than=depth)
        assert depth == 1 or found.deeper(than=depth - 1)
        assert found.size >= memory(content) * 2 // 3


@pytest.mark.parametrize(
    "piece", ["[]", '{"a":{"b":1}}', '"text"', "1.25", '"漢字"', '"\\ud83d\\ude00"']
)
def test_the_count_is_at_least_the_memory_of_the_objects(piece: str) -> None:
    raw = f'{{"x":[{",".join([piece] * 60_000)}]}}'.encode()
    assert parsed_size(raw) >= memory(orjson.loads(raw)) * 2 // 3


@pytest.mark.parametrize("pair", ["[]", "{}"])
@pytest.mark.parametrize("levels", [body.DEPTH - 1, body.DEPTH])
def test_levels_are_counted_exactly(pair: str, levels: int) -> None:
    before, after = ('{"a":', "}") if pair == "{}" else ("[", "]")
    raw = f'{{"x":{before * levels}"]]]"{after * levels}}}'.encode()
    assert counted(raw, part=100).deeper(than=body.DEPTH) == (levels == body.DEPTH)


@pytest.mark.parametrize("piece", [b"[[[[]]]],", b"{},", b'"",'])
def test_too_many_parts_are_refused_before_the_rest_is_counted(piece: bytes) -> None:
    structure, part = Structure(), piece * (LARGE // len(piece))
    with pytest.raises(Refusal) as refused:
        for _ in range(8):
            structure.add(part)
    assert refused.value.status == 413


def test_brackets_in_source_code_are_no_lists() -> None:
    code = json.dumps({"content": 'a["x"] = {"y": [1]}\\n' * 100_000}).encode()
    assert counted(code, part=LARGE).size < 2 * len(code)
