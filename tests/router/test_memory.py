"""Memory of a request is freed when it ends, without the garbage collector: bodies may be large."""

import gc
from collections.abc import Iterator

import pytest

from slipstream_runtime.router.proxy.exchange import Exchange
from tests.support import backends
from tests.support.routers import Running, routing


@pytest.fixture
def uncollected() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def ask_and_count(router: Running, **fields: object) -> int:
    for _ in range(3):
        await router.ask(**fields)
    return sum(type(each) is Exchange for each in gc.get_objects())


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize("stream", [False, True])
async def test_an_answered_request_leaves_nothing_to_the_garbage_collector(stream: bool) -> None:
    async with backends.running() as (engine,), routing(engine) as router:
        # NB: the last request's handler may still be in the frame of its connection.
        assert await ask_and_count(router, stream=stream) <= 1
