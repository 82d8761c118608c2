"""Rules of a route: streams, its share of escalations, stages, weights and changes."""

import asyncio

from slipstream_runtime import contract
from tests.support import backends
from tests.support.backends import Backend, Held, Peer, Received
from tests.support.cascades import (
    ESCALATIONS,
    SHORT,
    SURE,
    cascade,
    cascading,
    counted,
    escalated,
    said,
    says,
    stage,
    text,
)
from tests.support.routers import routing, until


async def test_nothing_escalates_after_the_first_byte(small: Backend, large: Backend) -> None:
    async def breaks_off(peer: Peer, received: Received) -> None:
        await peer.stream()
        await peer.tokens(2)
        peer.reset()

    small.always = breaks_off
    async with cascading(small, large, accept=SHORT) as router:
        reply = await router.ask(stream=True)
        assert reply.events[-1]["error"]["code"] == 502
        assert large.received == []
        assert await counted(router, "small") == (0, 0, 0)


async def test_a_stage_that_only_has_rules_streams_at_once(small: Backend, large: Backend) -> None:
    small.always = held = Held(begun=2)
    async with cascading(small, large, accept=SHORT) as router:
        asking = asyncio.create_task(router.ask(stream=True))
        await until(lambda: held.waiting == 1)
        assert small.received[0].streams
        assert "logprobs" not in small.received[0].content
        held.release.set()
        assert said(await asking) == "0 1 "
        long = await router.ask(user="x" * 1000)
        assert (long.status, len(large.received)) == (200, 1)
        assert await escalated(router, "prompt_too_long") == 1


async def test_what_is_no_text_is_for_the_last_stage_alone(small: Backend, large: Backend) -> None:
    async with cascading(small, large) as router:
        assert (await router.ask("/v1/embeddings", input="x")).status == 200
        assert [len(small.received), len(large.received)] == [0, 1]
        assert await router.metric(ESCALATIONS) == 0


async def test_no_more_than_the_allowed_share_is_answered_twice(
    small: Backend, large: Backend
) -> None:
    small.always = says("Small?", sure=0.1)
    async with cascading(small, large, share=0.25) as router:
        replies = [await router.ask() for _ in range(8)]
        assert {reply.status for reply in replies} == {200}
        assert len(large.received) == 2
        assert await counted(router, "small") == (6, 30, 10)


async def test_three_stages_go_from_the_first_to_the_last(small: Backend, large: Backend) -> None:
    async with backends.running() as (middle,), routing() as router:
        small.always, middle.always = says("?", sure=0.1), says("??", sure=0.1, output=9)
        named = [stage(name) for name in ("small", "middle", "large")]
        router.configure(*named, routes=[cascade(("small", SURE), ("middle", SURE))])
        router.place({"small-1": [small], "middle-1": [middle], "large-1": [large]})
        assert text(await router.ask()) == "0 1 2"
        assert await escalated(router, "unsure", **{"from": "middle", "to": "large"}) == 1
        assert await counted(router, "middle") == (0, 0, 9)
        large.always = backends.status(500)
        assert text(await router.ask()) == "??"
        assert await counted(router, "small") == (0, 0, 10)
        assert await counted(router, "middle") == (1, 9, 9)


async def test_a_route_goes_on_without_a_service_that_is_gone(
    small: Backend, large: Backend
) -> None:
    async with cascading(small, large) as router:
        router.configure(stage("large"), routes=[cascade(("small", SURE))])
        assert (await router.ask()).status == 200
        router.configure(stage("small"), routes=[cascade(("small", SURE))])
        small.always = says("Small?", sure=0.1)
        assert text(await router.ask()) == "Small?"
        router.configure(stage("small"))
        assert (await router.ask()).status == 404
        assert await router.metric(contract.ROUTE_ANSWERS) == 0


async def test_a_change_of_the_rules_keeps_the_account(small: Backend, large: Backend) -> None:
    async with cascading(small, large) as router:
        await router.ask()
        changed = cascade(("small", {"minConfidence": 0.95}))
        router.configure(stage("small"), stage("large"), routes=[changed])
        await router.ask()
        url = f"http://127.0.0.1:{router.management}{contract.STATUS_PATH}"
        async with router.http.get(url) as response:
            status = (await response.json())["routes"]["r"]
        assert status == {
            "requests": 2,
            "escalated": 1,
            "services": [{"name": "small", "share": 0.5}, {"name": "large", "share": 0.5}],
            "savedTokens": 5,
            "discardedTokens": 5,
        }


async def test_a_weighted_route_counts_its_answers(small: Backend, large: Backend) -> None:
    draws = iter([0.0, 0.4, 0.6])
    shares = [{"service": name, "weight": 1} for name in ("small", "large")]
    async with routing(chance=lambda: next(draws)) as router:
        split = {"name": "r", "model": "m", "backends": shares}
        router.configure(stage("small"), stage("large"), routes=[split])
        router.place({"small-1": [small], "large-1": [large]})
        await router.ask()
        await router.ask()
        assert b"usage" not in (await router.ask(stream=True)).body
        assert await counted(router, "small") == (2, 10, 0)
        assert await counted(router, "large") == (1, 3, 0)


async def test_what_the_response_cache_holds_costs_nothing(small: Backend, large: Backend) -> None:
    small.always, large.always = says("Small?", sure=0.1), says("Large.", sure=None, output=3)
    async with cascading(small, large, responses={"ttl": 60, "size": 100_000}) as router:
        for _ in range(2):
            assert (await router.ask(temperature=0)).status == 200
        assert [len(small.received), len(large.received)] == [1, 1]
        assert await counted(router, "small") == (0, 0, 5)
        assert await counted(router, "large") == (2, 3, 0)
