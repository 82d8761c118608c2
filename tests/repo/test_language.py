"""Language rules of CONTRIBUTING: the list of files that still break them may only shrink."""

import json
from collections import Counter
from pathlib import Path

import pytest

from dev.docs import language

DEBTS: dict[str, int] = json.loads(Path(__file__).with_name("language_debts.json").read_text())


@pytest.fixture(scope="module")
def findings() -> list[language.Finding]:
    return language.findings()


def test_no_file_breaks_the_rules_more_often_than_listed(findings: list[language.Finding]) -> None:
    found = Counter(finding.file for finding in findings)
    worse = {file for file, count in found.items() if count > DEBTS.get(file, 0)}
    assert not [finding for finding in findings if finding.file in worse]


def test_headless_docstrings_and_awkward_words_are_found(tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_text('"""What a module holds."""\n\nTEXT = "The pods start anew now."\n')
    assert [(f.line, f.text) for f in language.code(file, "module.py")] == [
        (1, "What a module holds."),
        (3, "anew"),
    ]


def test_long_sentences_of_docstrings_are_found(tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_text(f'"""Return {" ".join(["word"] * 25)}."""\n')
    assert [f.text.split()[0] for f in language.code(file, "module.py")] == ["26"]


def test_long_sentences_of_pages_are_found_and_code_is_left_out() -> None:
    long = " ".join(["word"] * 26) + "."
    text = f"# Page\n\n{long}\n\n```text\n{long}\n```\n\n- {long[:-6]} item.\n| `{long}` | told |\n"
    assert [(f.line, f.text.split()[0]) for f in language.page(text, "page.md")] == [
        (3, "26"),
        (9, "26"),
        (10, "told"),
    ]


def test_a_list_may_follow_a_colon() -> None:
    words = " ".join(["word"] * 24)
    assert not list(language.page(f"{words}: {words}.\n", "page.md"))
