"""Language rules of CONTRIBUTING that a program can check."""

from pathlib import Path

from dev.docs import language


def test_no_file_breaks_the_rules() -> None:
    assert not language.findings()


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
