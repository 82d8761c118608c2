"""Clients that leave a route, and a router that stops."""

import asyncio

import pytest

from slipstream_runtime import contract
from tests.support.backends import Backend, Held
from tests.support.cascades import cascading, counted, says
from tests.support.routers import until

CANCELLED = "slipstream_router_cancelled_requests_total"


@pytest.mark.parametrize("at", ["small", "large"])
async def test_a_client_that_leaves_ends_the_stage_that_works_for_it(
    small: Backend, large: Backend, at: str
) -> None:
    held = Held()
    if at == "small":
        small.always = held
    else:
        small.always, large.always = says("?", sure=0.1), held
    async with cascading(small, large) as router:
        asking = asyncio.create_task(router.ask(stream=True))
        await until(lambda: held.waiting == 1)
        asking.cancel()
        await until(lambda: held.abandoned == 1)
        await until(router.settled)
        assert await router.metric(CANCELLED, service=at, phase="answering") == 1
        assert await counted(router, "small") == (0, 0, 0 if at == "small" else 5)
        assert await router.metric(contract.ROUTE_ANSWERS) == 0


async def test_a_router_that_ends_tells_the_client_and_asks_no_further_stage(
    small: Backend, large: Backend
) -> None:
    small.always = held = Held()
    async with cascading(small, large) as router:
        asking = asyncio.create_task(router.ask())
        await until(lambda: held.waiting == 1)
        assert router.router.front.in_flight == 1
        router.router.front.abort()
        reply = await asking
        assert (reply.status, large.received) == (503, [])


async def test_a_router_that_drains_waits_for_all_stages(small: Backend, large: Backend) -> None:
    small.always = first = Held(then=says("?", sure=0.1))
    large.always = second = Held()
    async with cascading(small, large) as router:
        asking = asyncio.create_task(router.ask())
        await until(lambda: first.waiting == 1)
        emptied = asyncio.create_task(router.router.front.emptied(within=10))
        await asyncio.sleep(0)
        first.release.set()
        await until(lambda: second.waiting == 1)
        assert not emptied.done()
        second.release.set()
        assert (await asking).status == 200
        assert await emptied
