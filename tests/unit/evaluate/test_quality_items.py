"""Datasets: good lines become items, bad lines are named by number."""

import json
from pathlib import Path

import pytest

from slipstream_runtime.errors import UnsuitableError
from slipstream_runtime.evaluate.quality import command, datasets, items
from slipstream_runtime.evaluate.quality.config import Dataset


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
        ({"prompt": ""}, "prompt is empty"),
        ({"prompt": "x", "reference": ""}, "reference is empty"),
        ('{"prompt": "x", "prompt": "y"}', 'has the field "prompt" twice'),
        ('{"prompt": "x", "schema": {"type": "a", "type": "b"}}', 'has the field "type" twice'),
        ('{"prompt": "x", "reference": NaN}', "has the value NaN"),
        ('{"prompt": "x", "reference": -Infinity}', "has the value -Infinity"),
        ('{"prompt": "\\ud83d"}', "half of a surrogate pair"),
        ("[" * 100_000, "is nested too deeply"),
        ('{"prompt": "x", "schema": ' + '{"a":' * 100_000, "is nested too deeply"),
        ({"prompt": "x", "choices": ["a"], "reference": "a"}, "has only one choice"),
        ({"prompt": "x", "schema": {"type": "strin"}}, "schema is no JSON schema"),
        (
            {"prompt": "x", "schema": {"$ref": "http://169.254.169.254/latest"}},
            'refers to "http://169.254.169.254/latest"',
        ),
        ({"prompt": "x", "schema": {"items": {"$ref": "file:///etc/passwd"}}}, "refers to"),
        ({"prompt": "x", "schema": {"$ref": "#/$defs/missing"}}, "refers to"),
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


def load(tmp_path: Path, content: bytes, *, most: int | None = None) -> datasets.Loaded:
    file = tmp_path / "d.jsonl"
    file.write_bytes(content)
    found = Dataset(uri=str(file), fields={})
    return datasets.load(found, cache=tmp_path, most=most, seed=0, distinct=True)


@pytest.mark.parametrize(
    "content",
    [
        b'\xef\xbb\xbf{"prompt": "a"}\r\n\r\n{"prompt": "b"}\r\n',
        '{"prompt": "a"}\n{"prompt": "b", "slice": "x\u2028y\x85z\x1c"}'.encode(),
        b'{"prompt": "a"}\n{"prompt": "b"}',
    ],
)
def test_lines_end_where_other_readers_of_json_lines_end_them(
    tmp_path: Path, content: bytes
) -> None:
    content = content.replace(b"\x1c", b"")  # JSON escapes control characters below U+0020
    assert [item.prompt for item in load(tmp_path, content).items] == ["a", "b"]


@pytest.mark.parametrize("wrong", [b"\xff\xfe{", b'{"prompt": "caf\xe9"}'])
def test_a_line_of_another_encoding_is_named(tmp_path: Path, wrong: bytes) -> None:
    with pytest.raises(UnsuitableError, match="line 3 is not UTF-8"):
        load(tmp_path, b'{"prompt": "a"}\n\n' + wrong)


def test_items_with_the_same_content_count_once_whatever_their_names(tmp_path: Path) -> None:
    lines = [
        {"id": f"{n}", "slice": f"{n % 7}", "prompt": f"{n % 3}", "reference": "a"}
        for n in range(300)
    ]
    lines.append({"prompt": "0", "reference": "b"})
    content = "".join(json.dumps(line) + "\n" for line in lines).encode()
    found = load(tmp_path, content)
    assert [item.name for item in found.items] == ["0", "1", "2", "301"]
    assert (found.size, found.duplicates) == (301, 297)
    assert len(load(tmp_path, content, most=3).items) == 3


def test_names_must_be_unique() -> None:
    with pytest.raises(UnsuitableError, match='id "a" occurs twice'):
        parse({"id": "a", "prompt": "x"}, {"id": "a", "prompt": "y"})


def test_an_empty_file_is_refused() -> None:
    with pytest.raises(UnsuitableError, match="has no items"):
        parse("", "  ")


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("missing.jsonl", "dataset.uri: No such file or directory"),
        (".", "dataset.uri: Is a directory"),
        ("https://example.com/d.jsonl", 'dataset.uri: "https://example.com/d.jsonl" is no file'),
        ("hf://datasets/org", 'dataset.uri: "hf://datasets/org" names no file'),
    ],
)
def test_a_dataset_that_is_not_there_is_a_wrong_configuration(
    tmp_path: Path, uri: str, reason: str
) -> None:
    with pytest.raises(UnsuitableError) as found:
        datasets.load(Dataset(uri=uri, fields={}), cache=tmp_path, most=None, seed=0)
    assert str(found.value).startswith(reason)


def test_a_model_that_is_no_folder_is_not_looked_up_at_the_hub(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "d.jsonl").write_text('{"prompt": "a", "reference": "b"}')
    file = tmp_path / "quality.json"
    given = {
        "candidate": {"path": str(tmp_path / "typo")},
        "dataset": {"uri": str(tmp_path / "d.jsonl")},
        "metrics": [{"name": "ExactMatch"}],
        "output": str(tmp_path / "out"),
    }
    file.write_text(json.dumps(given))
    assert command.main(file, cache=tmp_path, output="json") == 2
    assert "typo is no folder" in capsys.readouterr().err
