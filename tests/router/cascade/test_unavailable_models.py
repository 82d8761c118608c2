"""Routes while a model is down, busy or failing."""

import asyncio
from typing import Any

import pytest

from slipstream_runtime import contract
from tests.support import backends
from tests.support.backends import Backend, Behavior, Held, Peer, Received
from tests.support.cascades import (
    SHORT,
    SURE,
    cascading,
    counted,
    escalated,
    route,
    said,
    says,
    text,
)
from tests.support.routers import until

RESPONSES = "slipstream_router_responses_total"


async def fails_in_a_stream(peer: Peer, received: Received) -> None:
    await peer.head(500, content_type="text/event-stream", transfer_encoding="chunked")
    await peer.event({"error": {"message": "no"}})
    await peer.done()


@pytest.mark.parametrize("accept", [SURE, SHORT], ids=["judging", "ruling"])
async def test_what_the_small_model_can_not_take_the_large_one_gets(
    small: Backend, large: Backend, accept: dict[str, Any]
) -> None:
    small.always = backends.status(400)
    async with cascading(small, large, accept=accept) as router:
        assert (await router.ask()).status == 200
        large.always = backends.status(400)
        assert (await router.ask()).status == 400
        assert await escalated(router, "rejected") == 2
        assert await counted(router, "large") == (1, 3, 0)


async def test_a_small_model_that_is_down_delays_nobody_and_is_woken(large: Backend) -> None:
    async with cascading(None, large) as router:
        async with asyncio.timeout(60):  # far below the 300 s that a request is held
            assert (await router.ask()).status == 200
        await until(lambda: router.renewed == ["small-activation"])
        assert await escalated(router, "error") == 1


async def test_engines_that_fail_are_not_waited_for(small: Backend, large: Backend) -> None:
    small.always = backends.die
    async with cascading(small, large) as router:
        replies = [await router.ask() for _ in range(5)]
        assert {reply.status for reply in replies} == {200}
        assert [len(small.received), len(large.received)] == [3, 5]
        assert await router.metric("slipstream_router_retries_total", service="small") == 0


async def test_another_engine_of_the_small_model_is_tried_first(
    small: Backend, large: Backend
) -> None:
    async with backends.running() as (dead,), cascading(small, large) as router:
        dead.always = backends.die
        router.place({"small-1": [dead, small], "large-1": [large]})
        replies = [await router.ask() for _ in range(4)]
        assert {text(r) for r in replies} == {"Small."}
        assert large.received == []


async def test_a_small_model_that_is_busy_is_not_waited_for_long(
    small: Backend, large: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slipstream_runtime.router.service.FALLBACK_WAIT_SECONDS", 0.02)
    small.always = held = Held(then=small.always)
    async with cascading(small, large, limits={"concurrency": 1}) as router:
        first = asyncio.create_task(router.ask())
        await until(lambda: held.waiting == 1)
        async with asyncio.timeout(60):  # the first request is never answered before
            assert (await router.ask()).status == 200
        assert len(large.received) == 1
        held.release.set()
        assert text(await first) == "Small."


@pytest.mark.parametrize("stream", [False, True])
async def test_if_all_fail_the_client_gets_one_error(
    small: Backend, large: Backend, stream: bool
) -> None:
    small.always, large.always = backends.die, backends.status(500)
    async with cascading(small, large) as router:
        reply = await router.ask(stream=stream)
        assert (reply.status, reply.content["error"]) == (500, {"message": "no"})
        assert await router.metric(contract.ROUTE_ANSWERS) == 0
        assert await router.metric(RESPONSES) == 1


@pytest.mark.parametrize(
    "fault", [backends.status(500), backends.status(503), backends.die, fails_in_a_stream]
)
async def test_an_answer_that_is_there_stands_where_the_large_model_fails(
    small: Backend, large: Backend, fault: Behavior
) -> None:
    small.always, large.always = says("Small?", sure=0.1), fault
    async with cascading(small, large) as router:
        _, service = route(router).services
        while service.retries.spend():
            pass
        reply = await router.ask(stream=True)
        assert (reply.status, said(reply)) == (200, "Small?")
        assert await escalated(router, "unsure") == 1
        assert await counted(router, "small") == (1, 5, 0)
        assert await counted(router, "large") == (0, 0, 0)
        assert await router.metric(RESPONSES, service="small") == 1
        assert await router.metric(RESPONSES, service="large") == 0
