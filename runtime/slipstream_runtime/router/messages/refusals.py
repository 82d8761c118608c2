"""Why the router did not serve a request, beside the reasons that engines have: values of the label `reason`."""

import enum
from typing import Final

from slipstream_runtime.web.refusal import CLOSE, Reason, Refusal


class Why(enum.StrEnum):
    """Reasons that only the router gives."""

    UNKNOWN_MODEL = "unknown_model"
    FORBIDDEN = "forbidden"
    BUDGET = "budget"
    SHED = "shed"
    HOLD = "hold"
    UPSTREAM = "upstream"
    OTHER = "other"


_RETRY_FULL: Final = 1
_RETRY_HOLD: Final = 10


def unauthorized() -> Refusal:
    """401; the connection is closed, for the body was not read."""
    return Refusal(
        401,
        "The request carries no valid API key: send it as `Authorization: Bearer KEY`",
        reason=Reason.UNAUTHORIZED,
        headers={"www-authenticate": "Bearer", **CLOSE},
    )


def forbidden(model: str) -> Refusal:
    """403 for a key that is valid, but not for this model."""
    return Refusal(403, f"This API key is not for the model `{model}`", reason=Why.FORBIDDEN)


def unknown_model(model: str) -> Refusal:
    """404 in vLLM's words."""
    return Refusal(
        404, f"The model `{model}` does not exist.", reason=Why.UNKNOWN_MODEL, param="model"
    )


def full() -> Refusal:
    """429 for a queue without room."""
    return Refusal(
        429,
        "All replicas are busy, and as many requests wait as may; try again",
        reason=Reason.QUEUE_FULL,
        headers={"retry-after": str(_RETRY_FULL)},
    )


def shed() -> Refusal:
    """429 for a request that waited and made room for one of higher priority."""
    return Refusal(
        429,
        "The queue is full, and requests of higher priority wait; try again",
        reason=Why.SHED,
        headers={"retry-after": str(_RETRY_FULL)},
    )


def nobody() -> Refusal:
    """503 for a service that another stands in for while none of its replicas is up."""
    return Refusal(503, "No replica is up", reason=Why.HOLD, headers={"retry-after": "1"})


def held_too_long(seconds: float) -> Refusal:
    """503 for a request that found no place in a replica in time."""
    return Refusal(
        503,
        f"No replica was free within {seconds:g} s; try again",
        reason=Why.HOLD,
        headers={"retry-after": str(_RETRY_HOLD)},
    )


def draining() -> Refusal:
    """503 from a router that is on its way out."""
    return Refusal(
        503,
        "This router is shutting down; try again",
        reason=Reason.DRAINING,
        headers={"retry-after": "1", **CLOSE},
    )


def late(seconds: float) -> Refusal:
    """504 for an answer that was not complete in time."""
    return Refusal(504, f"The answer was not complete within {seconds:g} s", reason=Reason.TIMEOUT)


def upstream(message: str, *, status: int = 502) -> Refusal:
    """502 or 504 for a replica that failed before or while it answered."""
    return Refusal(status, message, reason=Why.UPSTREAM, headers={"retry-after": "1"})


def over_budget(tokens: int, *, wait: float | None) -> Refusal:
    """429 for a tenant whose tokens are used up; `wait` in seconds, None if waiting does not help."""
    if wait is None:
        return Refusal(
            429,
            f"The request may use {tokens} tokens, more than this API key has a minute: lower max_tokens",
            reason=Why.BUDGET,
        )
    return Refusal(
        429,
        f"The request may use {tokens} tokens, more than this API key has left; try again",
        reason=Why.BUDGET,
        headers={"retry-after": str(max(1, round(wait + 0.5)))},
    )
