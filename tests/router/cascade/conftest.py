"""Engines of a route from a small model to a large one."""

from collections.abc import AsyncIterator

import pytest

from tests.support import backends
from tests.support.backends import Backend
from tests.support.cascades import says


@pytest.fixture
async def small() -> AsyncIterator[Backend]:
    async with backends.running() as (engine,):
        engine.always = says("Small.", sure=0.9)
        yield engine


@pytest.fixture
async def large() -> AsyncIterator[Backend]:
    async with backends.running() as (engine,):
        yield engine
