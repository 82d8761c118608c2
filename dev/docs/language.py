"""Language rules of CONTRIBUTING that a program can check: openings, words that are not used, long sentences."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from dev import paths

CODE = ("operator", "runtime", "simulator", "cli", "dev")
PROSE = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs", "manifests", "benchmarks", "dev")
OPENINGS = frozenset(
    {"What", "Which", "How", "From", "Of", "Where", "Those", "Since", "Who", "Whose", "That", "So"}
)
WORDS = re.compile(
    r"\b(anew|mend|mends|mended|shall|lest|of late|so many|somebody|nobody|the begin|its begin)\b",
    re.IGNORECASE,
)
PHRASES = re.compile(
    r"\b(as ever|as may|at rest|by chance|in truth|looked at|no more of|of others|ours|told|what comes)\b",
    re.IGNORECASE,
)
"""Further words that pages of the documentation and docstrings don't use."""
LONGEST_SENTENCE = 25
"""Words in a sentence of a page or docstring. A colon ends a sentence here, so that a list may follow it."""
GENERATED = ("docs/reference/", "docs/gpu-kernels.md")
"""Pages whose sentences are written elsewhere, in the code."""
_SENTENCE = 3
"""Words from which on a string literal counts as a text that users may read."""


class Finding(NamedTuple):
    """One place that breaks a rule."""

    file: str
    line: int
    text: str


def findings() -> list[Finding]:
    """Every place of the repository that breaks a rule."""
    found: list[Finding] = []
    for root in CODE:
        for file in sorted((paths.REPOSITORY / root).rglob("*.py")):
            if file == Path(__file__):
                continue  # the list of words itself
            found += code(file, str(file.relative_to(paths.REPOSITORY)))
    for name in PROSE:
        place = paths.REPOSITORY / name
        files = [place] if place.is_file() else sorted(place.rglob("*"))
        for file in files:
            if file.suffix in {".md", ".yaml"}:
                found += _prose(file)
    return found


def code(file: Path, name: str) -> Iterator[Finding]:
    """Findings in the docstrings and texts of a Python file, under this name."""
    tree = ast.parse(file.read_text())
    docstrings = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text and node.body:
                docstrings.add(node.body[0].lineno)
                if text.split()[0].rstrip(",.:;") in OPENINGS:
                    yield Finding(name, node.body[0].lineno, text.splitlines()[0])
                for paragraph in text.split("\n\n"):
                    yield from _sentences(name, node.body[0].lineno, _plain(paragraph))
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            texts = len(node.value.split()) >= _SENTENCE
            if texts and (match := WORDS.search(node.value)):
                yield Finding(name, node.lineno, match.group())


def _prose(file: Path) -> Iterator[Finding]:
    name = str(file.relative_to(paths.REPOSITORY))
    text = file.read_text()
    for number, line in enumerate(text.splitlines(), start=1):
        for match in WORDS.finditer(line):
            yield Finding(name, number, match.group())
    if file.suffix == ".md" and not name.startswith(GENERATED):
        yield from page(text, name)


def page(text: str, name: str) -> Iterator[Finding]:
    """Findings in the sentences of a Markdown page, code blocks and inline code left out."""
    for number, block in _blocks(text):
        yield from _sentences(name, number, block)


def _sentences(name: str, line: int, text: str) -> Iterator[Finding]:
    if match := PHRASES.search(text):
        yield Finding(name, line, match.group())
    for sentence in re.split(r"(?<=[.!?:])[\"')*_]*\s+", text):
        words = [word for word in sentence.split() if re.search(r"\w", word)]
        if len(words) > LONGEST_SENTENCE:
            yield Finding(name, line, f"{len(words)} words: {sentence}")


def _blocks(text: str) -> Iterator[tuple[int, str]]:
    """Line number and plain text of each paragraph, list item and table cell."""
    block: list[str] = []
    first, fenced = 0, False
    for number, line in enumerate([*text.splitlines(), ""], start=1):
        stripped = line.strip()
        fence = stripped.startswith("```")
        fenced ^= fence
        skipped = fenced or fence or not stripped or stripped.startswith(("#", "|"))
        item = re.match(r"([-*+]|\d+\.)\s+", stripped)
        if block and (skipped or item):
            yield first, _plain(" ".join(block))
            block = []
        if stripped.startswith("|") and not fenced:
            yield from ((number, _plain(cell)) for cell in stripped.strip("|").split("|"))
        elif not skipped:
            first = first if block else number
            block.append(stripped[item.end() :] if item else stripped)


def _plain(markdown: str) -> str:
    without_images = re.sub(r"!\[[^\]]*\]\([^)]*\)", "", markdown)
    without_links = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", without_images)
    return re.sub(r"`[^`]*`", "code", without_links)
