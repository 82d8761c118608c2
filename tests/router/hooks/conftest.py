"""Services of a route with hooks."""

from collections.abc import AsyncIterator

import pytest

from tests.support import backends
from tests.support.backends import Backend
from tests.support.hooks import summary


@pytest.fixture
async def engine() -> AsyncIterator[Backend]:
    async with backends.running() as (found,):
        yield found


@pytest.fixture
async def brief() -> AsyncIterator[Backend]:
    async with backends.running() as (found,):
        found.always = summary()
        yield found


@pytest.fixture
async def search() -> AsyncIterator[Backend]:
    async with backends.running() as (found,):
        yield found
