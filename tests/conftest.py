"""Options and settings of all tests."""

import hypothesis
import pytest

hypothesis.settings.register_profile(
    "ours", deadline=None, max_examples=30, derandomize=True, database=None
)
hypothesis.settings.load_profile("ours")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="rewrite the files of tests/golden"
    )
