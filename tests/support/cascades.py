"""A route from a small model to a large one, and answers of its engines."""

import contextlib
import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from slipstream_runtime import contract
from tests.support.backends import Backend, Behavior, Peer, Received
from tests.support.routers import Reply, Running, routing, service

ESCALATIONS = "slipstream_router_route_escalations_total"

SURE = {"minConfidence": 0.8}

SHORT = {"maxPromptTokens": 100}


def stage(name: str, **fields: Any) -> dict[str, Any]:
    """Return a service as a stage: `small` has the model `m-small` and the Lease `small-activation`."""
    revisions = [{"name": f"{name}-1", "weight": 100}]
    names = {"name": name, "model": f"m-{name}", "activation": f"{name}-activation"}
    return service(**names, revisions=revisions, **fields)


def cascade(*stages: tuple[str, dict[str, Any]], last: str = "large", **fields: Any) -> Any:
    found = [{"service": name, "accept": accept} for name, accept in stages]
    return {"name": "r", "model": "m", "stages": [*found, {"service": last}], **fields}


@contextlib.asynccontextmanager
async def cascading(
    small: Backend | None,
    large: Backend | None,
    *,
    accept: dict[str, Any] = SURE,
    keys: Path | None = None,
    limits: dict[str, Any] | None = None,
    share: float = 1.0,
    **fields: Any,
) -> AsyncIterator[Running]:
    """Run a router of the route `m` from `small` to `large`; None: the service has no engine."""
    common = {"keys": keys is not None, "limits": limits or {}, **fields}
    both = [stage("small", **common), stage("large", **common)]
    options = {} if keys is None else {"keys": keys}
    async with routing(services=both, **options) as router:
        router.configure(*both, routes=[cascade(("small", accept), maxEscalation=share)])
        found = {"small-1": small, "large-1": large}
        router.place({name: [each] for name, each in found.items() if each is not None})
        yield router


def says(
    words: str, *, sure: float | None, reason: str = "stop", output: int = 5, **message: Any
) -> Behavior:
    """Return a whole answer of the chat API; all tokens have the same probability."""
    tokens = [{"token": "x", "logprob": math.log(sure)}] * 3 if sure else None
    answer = {
        "id": "1",
        "object": "chat.completion",
        "model": "m-small",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": words, **message},
                "finish_reason": reason,
                "logprobs": {"content": tokens} if tokens else None,
            }
        ],
        "usage": {"prompt_tokens": 7, "completion_tokens": output, "total_tokens": 7 + output},
    }

    async def behave(peer: Peer, received: Received) -> None:
        await peer.whole(answer)

    return behave


def route(router: Running) -> Any:
    return router.router.table.route("m")


async def escalated(router: Running, reason: str, **labels: str) -> float:
    return await router.metric(ESCALATIONS, route="r", reason=reason, **labels)


async def counted(router: Running, name: str) -> tuple[float, float, float]:
    """Return the answers, and the output tokens that were kept and discarded."""
    labels = {"route": "r", "service": name}
    return (
        await router.metric(contract.ROUTE_ANSWERS, **labels),
        await router.metric(contract.ROUTE_TOKENS, outcome="kept", **labels),
        await router.metric(contract.ROUTE_TOKENS, outcome="discarded", **labels),
    )


def text(reply: Reply) -> str:
    """Return the text of a whole answer."""
    found: str = reply.content["choices"][0]["message"]["content"]
    return found


def said(reply: Reply) -> str:
    """Return the text of a stream's events."""
    chunks = [event for event in reply.events if event != "[DONE]"]
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    return "".join(delta.get("content", "") for delta in deltas)
