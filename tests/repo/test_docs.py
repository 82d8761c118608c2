"""Documents tell the truth: every reason is explained, every test that a guarantee names exists."""

import re
from pathlib import Path

from dev.docs import reasons
from slipstream_operator.names import Reason

ROOT = Path(__file__).parents[2]


def test_every_reason_and_condition_is_explained() -> None:
    page = reasons.page()
    assert all(f"| `{reason}` |" in page for reason in reasons.values(Reason))


def test_no_reason_is_explained_that_the_code_does_not_know() -> None:
    explained = set(re.findall(r"^([A-Za-z]+):", reasons.MEANINGS.read_text(), re.MULTILINE))
    assert explained == set(reasons.values(Reason))


def test_every_guarantee_names_tests_that_exist() -> None:
    rows = [
        line
        for line in (ROOT / "docs/guarantees.md").read_text().splitlines()
        if line.startswith("| ") and not line.startswith("| Guarantee")
    ]
    assert rows
    for row in rows:
        tests = re.findall(r"`(tests/[^`]+)`", row)
        assert tests, row
        assert all((ROOT / test).is_file() for test in tests), row


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) < 120
