"""Passages of files."""

import time
from pathlib import Path

import pytest

from slipstream_runtime.errors import UnsuitableError
from slipstream_runtime.retrieval import passages


def split(text: str, *, size: int = 60) -> list[str]:
    return list(passages.split(text, headings=True, size=size))


def test_paragraphs_are_packed_and_begin_with_their_heading() -> None:
    found = split("# Harbour\n\nSeven cranes.\n\nOne lighthouse.\n\n## Fees\nForty florins.")
    assert found == ["Harbour\n\nSeven cranes.\n\nOne lighthouse.", "Fees\n\nForty florins."]


def test_text_without_headings_stays_as_it_is() -> None:
    assert list(passages.split("# not a heading", headings=False)) == ["# not a heading"]


@pytest.mark.parametrize("size", [16, 60, 61, 900])
@pytest.mark.parametrize(
    "text",
    [
        "word " * 300,
        "x" * 1000,
        "Ein Satz. " * 200,
        "東京" * 400,
        "a\n\n" * 300,
        "# " + "h" * 500 + "\ntext",
    ],
)
def test_no_passage_is_larger_than_the_size_and_nothing_is_lost(text: str, size: int) -> None:
    found = split(text, size=size)
    assert all(0 < len(part.encode()) <= size for part in found)
    if not text.startswith("#"):
        assert "".join("".join(found).split()) == "".join(text.split())


def test_files_are_found_in_folders_by_their_suffix(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    for name in ("a.md", "b/c.txt", "d.png"):
        (tmp_path / name).write_text("x")
    assert [name for _, name in passages.files([tmp_path])] == ["a.md", "b/c.txt"]
    assert passages.files([tmp_path / "a.md"]) == [(tmp_path / "a.md", "a.md")]


def test_lines_of_json_have_their_own_source(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"text": "one", "source": "s"}\n\n{"text": "two"}\n')
    found = list(passages.read(file, source="a.jsonl"))
    assert [(each.text, each.source) for each in found] == [("one", "s"), ("two", "a.jsonl")]


def test_lines_of_json_end_at_line_feeds_alone(tmp_path: Path) -> None:
    file = tmp_path / "a.JSONL"
    text = '\ufeff{"text": "one\u2028two\x85"}\r\n{"text": "three", "source": "\\ud83d"}'
    file.write_text(text, newline="")
    assert passages.files([tmp_path]) == [(file, "a.JSONL")]
    found = list(passages.read(file, source="a.jsonl"))
    assert [each.text.split()[-1] for each in found] == ["two", "three"]
    assert [each.source for each in found] == ["a.jsonl", "a.jsonl"]


def test_a_byte_order_mark_hides_no_heading(tmp_path: Path) -> None:
    file = tmp_path / "a.md"
    file.write_text("\ufeff# Harbour #\n\nSeven cranes.")
    assert [each.text for each in passages.read(file, source="a")] == ["Harbour\n\nSeven cranes."]


@pytest.mark.parametrize("text", ["x" * 3_000_000, "# a" + " " * 300_000 + "b", "word " * 600_000])
def test_a_huge_line_takes_time_in_proportion_to_its_length(text: str) -> None:
    began = time.process_time()
    found = list(passages.split(text, headings=True))
    assert time.process_time() - began < 5
    assert all(len(part.encode()) <= passages.PASSAGE_BYTES for part in found)


WRONG = {
    "no text": ('{"text": "a"}\n{"source": "b"}\n', "line 2 has no text"),
    "no object": ("[1]\n", "line 1 has no text"),
    "no JSON": ("x\n", "line 1 has no text"),
    "half a character": ('{"text": "\\ud83d"}\n', "line 1 has no text"),
    "deep": ("[" * 100_000 + "\n", "line 1 has no text"),
}


@pytest.mark.parametrize(("text", "message"), WRONG.values(), ids=WRONG)
def test_a_wrong_line_is_named(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(text)
    with pytest.raises(UnsuitableError, match=message):
        list(passages.read(file, source="a"))


def test_files_that_are_no_text_are_refused(tmp_path: Path) -> None:
    binary = tmp_path / "a.txt"
    binary.write_bytes(b"ab\xff")
    with pytest.raises(UnsuitableError, match="not UTF-8 at byte 2"):
        list(passages.read(binary, source="a"))
    for path in (tmp_path / "missing.md", tmp_path / "a.pdf"):
        with pytest.raises(UnsuitableError, match="is no file of text"):
            passages.files([path])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UnsuitableError, match="no files"):
        passages.files([tmp_path / "empty"])
