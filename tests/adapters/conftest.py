"""Tests of the Lease run on a loop whose clock jumps; the others talk to a real socket."""

import asyncio
from collections.abc import Callable, Mapping

import pytest

from tests.support.loops import JumpingLoop


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    jumps = item.path.stem == "test_lease"
    return {"loop": JumpingLoop if jumps else asyncio.SelectorEventLoop}
