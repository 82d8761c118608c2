"""Memory of a request is freed when it ends, without the garbage collector: bodies may be large."""

import asyncio
import gc
from collections.abc import Iterator

import pytest
from aiohttp.http_exceptions import BadHttpMessage

from slipstream_runtime.router.cluster.routers import LEND_PATH
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


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize("port", ["port", "management"])
async def test_malformed_requests_leave_nothing_to_the_garbage_collector(port: str) -> None:
    """The traceback of a parser's error holds what the client sent."""
    async with routing() as router:
        for _ in range(5):
            reader, writer = await asyncio.open_connection("127.0.0.1", getattr(router, port))
            writer.write(b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 1000)
            assert b"400" in await reader.readline()
            writer.transport.abort()
        errors = [each for each in gc.get_objects() if issubclass(type(each), BadHttpMessage)]
        assert len(errors) <= 1


async def test_the_management_port_bounds_the_message_of_another_router() -> None:
    async with (
        routing() as router,
        router.http.post(
            f"http://127.0.0.1:{router.management}{LEND_PATH}", data=b"x" * 1024 * 1024
        ) as response,
    ):
        assert response.status == 413
