"""Options and settings of all tests."""

from pathlib import Path
from typing import Final

import hypothesis
import pytest

hypothesis.settings.register_profile(
    "ours", deadline=None, max_examples=30, derandomize=True, database=None
)
hypothesis.settings.load_profile("ours")


REAL: Final = frozenset(
    Path(__file__).parent / name for name in ("build", "cluster", "e2e", "engine")
)
HANG_SECONDS: Final = 1800.0
"""Time after which a test of the real cluster or engine counts as hanging. Its own waits end long before."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give tests whose length depends on the machine time enough on a slow one."""
    for item in items:
        if item.path.parent in REAL:
            item.add_marker(pytest.mark.timeout(HANG_SECONDS))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="rewrite the files of tests/golden"
    )
