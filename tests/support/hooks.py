"""A route with hooks: one service, a service for summaries, a search service, and chats."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from tests.support.backends import Backend, Behavior, Peer, Received
from tests.support.cascades import says, stage
from tests.support.routers import Running, routing

REQUESTS = "slipstream_router_hook_requests_total"
FAILURES = "slipstream_router_hook_failures_total"
TOKENS = "slipstream_router_hook_tokens_total"
SUMMARIES = "slipstream_router_hook_summaries_total"
CONDENSE = {"service": "brief", "overTokens": 64, "keepTurns": 1, "summaryTokens": 16}
PATH = "/v1/vector_stores/handbook/search"
LONG = "The harbour of Dibramia has seven cranes and a lighthouse. " * 12


def url(search: Backend) -> str:
    return f"http://127.0.0.1:{search.port}{PATH}"


def found(*passages: str, name: str = "a.md") -> Behavior:
    """Return a search's answer."""
    page = {
        "object": "vector_store.search_results.page",
        "data": [
            {
                "file_id": "f",
                "filename": name,
                "score": 0.9,
                "content": [{"type": "text", "text": text}],
            }
            for text in passages
        ],
    }

    async def behave(peer: Peer, received: Received) -> None:
        await peer.whole(page)

    return behave


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def said(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def conversation(turns: int) -> list[dict[str, Any]]:
    """Return a long conversation whose last turn is a question."""
    pairs = [
        (user(f"Question {number}? {LONG}"), said(f"Answer {number}.")) for number in range(turns)
    ]
    return [message for pair in pairs for message in pair] + [user("And now?")]


@contextlib.asynccontextmanager
async def hooked(
    engine: Backend,
    brief: Backend | None = None,
    *,
    keys: Path | None = None,
    limits: dict[str, Any] | None = None,
    **hooks: Any,
) -> AsyncIterator[Running]:
    """Run a router of the route `m` over one service, with these hooks; `brief` writes summaries."""
    common = {"keys": keys is not None}
    both = [stage("chat", limits=limits or {}, **common), stage("brief", **common)]
    options = {} if keys is None else {"keys": keys}
    async with routing(services=both, **options) as router:
        shares = [{"service": "chat", "weight": 1}]
        router.configure(*both, routes=[{"name": "r", "model": "m", "backends": shares, **hooks}])
        places: dict[str, Sequence[Backend]] = {"chat-1": [engine]}
        router.place({**places, **({"brief-1": [brief]} if brief else {})})
        yield router


def summary(text: str = "Seven cranes.") -> Behavior:
    return says(text, sure=None)


def messages(received: Received) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = received.content["messages"]
    return found


async def outcomes(router: Running, hook: str) -> tuple[float, float, float]:
    """Return the chats that the hook changed, left alone, and failed on."""
    changed, unneeded, failed = [
        await router.metric(REQUESTS, route="r", hook=hook, outcome=each)
        for each in ("changed", "unneeded", "failed")
    ]
    return changed, unneeded, failed


async def failures(router: Running, hook: str, reason: str) -> float:
    return await router.metric(FAILURES, route="r", hook=hook, reason=reason)
