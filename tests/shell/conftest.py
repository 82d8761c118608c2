"""All tests of the shell run on a loop whose clock jumps."""

import asyncio
from collections.abc import Callable, Mapping

import pytest

from tests.support.loops import JumpingLoop


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"jumping": JumpingLoop}
