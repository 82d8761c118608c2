"""Hooks of a route that is a cascade: they run once, before the first stage."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from tests.support.backends import Backend, status
from tests.support.cascades import SURE, cascade, says, stage
from tests.support.hooks import (
    CONDENSE,
    conversation,
    failures,
    found,
    messages,
    outcomes,
    url,
    user,
)
from tests.support.routers import Running, routing


@contextlib.asynccontextmanager
async def cascading(
    small: Backend, large: Backend, *, accept: dict[str, Any] = SURE, **hooks: Any
) -> AsyncIterator[Running]:
    """Run a router of the route `m` from `small` to `large`; `small` also writes summaries, as `brief`."""
    services = [stage(name) for name in ("small", "large", "brief")]
    async with routing(services=services) as router:
        router.configure(*services, routes=[{**cascade(("small", accept)), **hooks}])
        router.place({"small-1": [small], "large-1": [large], "brief-1": [small]})
        yield router


async def test_each_stage_gets_the_passages_of_one_search(
    engine: Backend, brief: Backend, search: Backend
) -> None:
    search.always = found("The deposit is 40 florins.")
    brief.always = says("Forty?", sure=0.1)
    async with cascading(brief, engine, retrieve={"url": url(search)}) as router:
        assert (await router.ask(messages=[user("?")], stream=True)).events[-1] == "[DONE]"
        first, second = messages(brief.received[0]), messages(engine.received[0])
        assert first == second
        assert "40 florins" in first[0]["content"]
        assert len(search.received) == 1
        assert await outcomes(router, "retrieve") == (1, 0, 0)


async def test_a_condensed_conversation_is_short_enough_for_the_first_stage(
    engine: Backend, brief: Backend
) -> None:
    short = {"maxPromptTokens": 150}
    async with cascading(brief, engine, accept=short) as router:
        await router.ask(messages=conversation(2))
        assert (len(brief.received), len(engine.received)) == (0, 1)
    async with cascading(brief, engine, accept=short, condense=CONDENSE) as router:
        assert (await router.ask(messages=conversation(2))).status == 200
        assert "Seven cranes." in messages(brief.received[-1])[0]["content"]
        assert len(engine.received) == 1


async def test_a_stage_that_refuses_the_passages_gets_the_clients_own_request(
    engine: Backend, brief: Backend, search: Backend
) -> None:
    search.always = found("The deposit is 40 florins.")
    brief.script = [status(400), says("Forty?", sure=0.1)]
    async with cascading(brief, engine, retrieve={"url": url(search)}) as router:
        assert (await router.ask(messages=[user("?")])).status == 200
        assert [len(messages(each)) for each in brief.received] == [2, 1]
        assert [len(messages(each)) for each in engine.received] == [1]
        assert await failures(router, "retrieve", "rejected") == 1
