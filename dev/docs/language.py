"""Language rules of CONTRIBUTING that a program can check: openings of docstrings, and words that are not used."""

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
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            texts = len(node.value.split()) >= _SENTENCE
            if texts and (match := WORDS.search(node.value)):
                yield Finding(name, node.lineno, match.group())


def _prose(file: Path) -> Iterator[Finding]:
    name = str(file.relative_to(paths.REPOSITORY))
    for number, line in enumerate(file.read_text().splitlines(), start=1):
        for match in WORDS.finditer(line):
            yield Finding(name, number, match.group())
