"""Passages of files: paragraphs below one heading, packed up to a size that an encoder reads whole."""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from slipstream_runtime.errors import UnsuitableError

SUFFIXES: Final = (".jsonl", ".md", ".txt")
PASSAGE_BYTES: Final = 900
"""Bytes of a passage: about 220 tokens, since sentence encoders read 256 to 512."""
FILE_BYTES: Final = 256 * 1024 * 1024
"""Bytes of one file."""
_HEADING: Final = re.compile(r"#{1,6}\s+(\S.*)")
_HALF: Final = re.compile("[\ud800-\udfff]")
"""Half of a surrogate pair, which JSON can hold and no request can."""
_BREAK: Final = re.compile(r"\n\s*\n")


@dataclass(frozen=True, slots=True)
class Passage:
    """Text, and the file that has it."""

    text: str
    source: str


def files(paths: Iterable[Path]) -> list[tuple[Path, str]]:
    """Return each file with its name in the index: those that are named, and those in folders that have a known suffix.

    UnsuitableError names a file that can't be read.
    """
    found: list[tuple[Path, str]] = []
    for path in paths:
        if path.is_dir():
            inner = sorted(p for p in path.rglob("*") if _is_text(p))
            found += [(file, file.relative_to(path).as_posix()) for file in inner]
        elif _is_text(path):
            found.append((path, path.name))
        else:
            raise UnsuitableError(
                f"{path}: is no file of text. Use files that end with {', '.join(SUFFIXES)}, or a folder of them."
            )
    if not found:
        raise UnsuitableError(
            f"There are no files to index. Use files that end with {', '.join(SUFFIXES)}."
        )
    return found


def _is_text(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.is_file()


def read(path: Path, *, source: str) -> Iterator[Passage]:
    """Yield the passages of a file; UnsuitableError names the line that can't be read."""
    try:
        if path.stat().st_size > FILE_BYTES:
            raise UnsuitableError(f"{path}: is larger than {FILE_BYTES} bytes. Split it.")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UnsuitableError(f"{path}: can't be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise UnsuitableError(f"{path}: is not UTF-8 at byte {error.start}. Convert it.") from None
    suffix = path.suffix.lower()
    if suffix == ".jsonl":
        yield from _lines(text, path=path, source=source)
        return
    for part in split(text, headings=suffix == ".md"):
        yield Passage(part, source)


def split(text: str, *, headings: bool, size: int = PASSAGE_BYTES) -> Iterator[str]:
    """Yield passages of at most `size` bytes. With `headings`, each begins with its heading in Markdown."""
    heading, parts = "", list[str]()
    for paragraph in _BREAK.split(text.replace("\r\n", "\n")):
        paragraph = paragraph.strip()
        match = _HEADING.fullmatch(paragraph.partition("\n")[0].rstrip()) if headings else None
        if match is not None:
            yield from _packed(heading, parts, size=size)
            heading, parts = match[1].rstrip("#").rstrip() or match[1], []
            paragraph = paragraph.partition("\n")[2].strip()
        if paragraph:
            parts.append(paragraph)
    yield from _packed(heading, parts, size=size)


def _packed(heading: str, paragraphs: Iterable[str], *, size: int) -> Iterator[str]:
    heading = _prefix(heading, size=size // 4)
    room = size - len(heading.encode())
    packed = ""
    for piece in (piece for each in paragraphs for piece in _pieces(each, size=room)):
        joined = f"{packed}\n\n{piece}" if packed else piece
        if packed and len(joined.encode()) > room:
            yield heading + packed
            packed = piece
        else:
            packed = joined
    if packed:
        yield heading + packed


def _prefix(heading: str, *, size: int) -> str:
    return heading.encode()[:size].decode(errors="ignore") + "\n\n" if heading else ""


def _pieces(paragraph: str, *, size: int) -> Iterator[str]:
    """Yield parts of a paragraph of at most `size` bytes, cut after a sentence or a word where there is one."""
    start = 0
    while start < len(paragraph):
        # NB: a character has at least one byte, so that the rest of a long paragraph is not encoded each time.
        window = paragraph[start : start + size + 1].encode()
        if len(window) <= size:
            yield from filter(None, [paragraph[start:].strip()])
            return
        head = window[:size].decode(errors="ignore")
        ends = (head.rfind(". ") + 1, head.rfind("\n"), head.rfind(" "))
        cut = next((end for end in ends if end > len(head) // 2), 0) or len(head)
        yield from filter(None, [head[:cut].strip()])
        start += cut
        while start < len(paragraph) and paragraph[start].isspace():
            start += 1


def _lines(text: str, *, path: Path, source: str) -> Iterator[Passage]:
    # NB: str.splitlines also splits at characters that JSON allows inside of a text, such as U+2028.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            entry: Any = json.loads(line)
        except (ValueError, RecursionError):
            entry = None
        found = entry.get("text") if isinstance(entry, dict) else None
        if not isinstance(found, str) or not found.strip() or _HALF.search(found):
            raise UnsuitableError(
                f'{path}: line {number} has no text. Use one object a line, such as {{"text": "...", "source": "..."}}.'
            )
        name = entry.get("source")
        if not isinstance(name, str) or not name or _HALF.search(name):
            name = source
        for part in split(found, headings=False):
            yield Passage(part, name)
