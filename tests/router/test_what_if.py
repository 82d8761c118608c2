"""What-ifs predict what the router and simulated engines attain after the change, in a time that jumps."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import aiohttp
import pytest

from benchmarks.why import lab, run
from benchmarks.why.lab import Ask, Engines
from slipstream_runtime import contract
from slipstream_runtime.router.balancing.endpoints import Address
from slipstream_runtime.simulator import process
from slipstream_runtime.simulator.config import Config
from slipstream_runtime.web import sockets
from slipstream_simulator.recorded import requests
from slipstream_simulator.recorded.requests import Recorded
from tests.support.loops import JumpingLoop
from tests.support.routers import routing, until

EPOCH = 1_000_000.0
MOST = 0.03
"""Share of the requests by which a what-if may be wrong."""


@contextlib.asynccontextmanager
async def engine(name: str, engines: Engines) -> AsyncIterator[Address]:
    """Run a simulated engine in this loop."""
    api, management = sockets.bind(0), sockets.bind(0)
    address = Address(name, "127.0.0.1", api.getsockname()[1], management.getsockname()[1])
    serving = asyncio.create_task(
        process.serve(
            Config.model_validate(engines.settings),
            api_socket=api,
            management_socket=management,
            started=asyncio.get_running_loop().time(),
        )
    )
    try:
        while await read(address, contract.READY_PATH) is None:  # noqa: ASYNC110 (another task)
            await asyncio.sleep(0.01)
        yield address
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        api.close()
        management.close()


async def read(address: Address, path: str) -> str | None:
    """Return a page of an engine; None until it serves one."""
    with contextlib.suppress(aiohttp.ClientConnectorError):
        async with (
            aiohttp.ClientSession() as http,
            http.get(address.management_url(path), params={"most": 100_000}) as answer,
        ):
            return await answer.text() if answer.status == 200 else None
    return None


def played(traffic: list[Ask], engines: Engines) -> list[Recorded]:
    """Return the records of a router in front of these engines, after the traffic."""

    async def play() -> list[Recorded]:
        loop = asyncio.get_running_loop()
        async with contextlib.AsyncExitStack() as stack:
            found = [
                await stack.enter_async_context(engine(f"pod-{number}", engines))
                for number in range(engines.replicas)
            ]
            router = await stack.enter_async_context(
                routing(clock=loop.time, now=lambda: EPOCH + loop.time())
            )
            router.router.update({"chat-1": found})
            await until(lambda: all(each.load is not None for each in router.chat.pool))
            await lab.play(f"http://127.0.0.1:{router.port}", traffic)
            return requests.read(map(json.dumps, await router.records(most="100000")))

    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        return runner.run(play())


@pytest.fixture(scope="module")
def traffic() -> list[Ask]:
    return run.asks(seconds=60.0, rate=run.RATE)


@pytest.fixture(scope="module")
def recorded(traffic: list[Ask]) -> list[Recorded]:
    return played(traffic, run.PRESENT)


@pytest.mark.parametrize("change", [*run.CHANGES][:3])
def test_a_what_if_is_what_the_changed_service_attains(
    traffic: list[Ask], recorded: list[Recorded], change: str
) -> None:
    really = played(traffic, run.CHANGES[change])
    found = run.compared(recorded, {change: really})[change]
    assert abs(found.replay_error) <= MOST
    assert found.predicted == pytest.approx(found.really, abs=MOST)
    assert abs(found.really - found.recorded) > MOST, "the change must make a difference"
