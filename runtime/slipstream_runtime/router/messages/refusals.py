"""Refusals that only the router gives."""

from slipstream_runtime.web.openai import Reason
from slipstream_runtime.web.refusal import CLOSE, Refusal


def forbidden(model: str) -> Refusal:
    """403 for a key that is valid, but not for this model."""
    return Refusal(403, f"This API key is not for the model `{model}`", reason=Reason.FORBIDDEN)


def unknown_model(model: str) -> Refusal:
    """404 in vLLM's words."""
    return Refusal(
        404, f"The model `{model}` does not exist.", reason=Reason.UNKNOWN_MODEL, param="model"
    )


def queue_full() -> Refusal:
    """429 for a queue without room."""
    return Refusal(
        429,
        "All replicas are busy, and as many requests wait as may; try again",
        reason=Reason.QUEUE_FULL,
    )


def shed() -> Refusal:
    """429 for a request that waited and made room for one of higher priority."""
    return Refusal(
        429,
        "The queue is full, and requests of higher priority wait; try again",
        reason=Reason.SHED,
    )


def no_replica() -> Refusal:
    """503 for a service that another stands in for while none of its replicas is up."""
    return Refusal(503, "No replica is up", reason=Reason.HOLD, retry_after=1)


def held_too_long(seconds: float) -> Refusal:
    """503 for a request that found no place in a replica in time."""
    return Refusal(
        503,
        f"No replica was free within {seconds:g} s; try again",
        reason=Reason.HOLD,
    )


def draining() -> Refusal:
    """503 from a router that is on its way out."""
    return Refusal(
        503,
        "This router is shutting down; try again",
        reason=Reason.DRAINING,
        headers=CLOSE,
    )


def upstream(message: str, *, status: int = 502) -> Refusal:
    """502 or 504 for a replica that failed before or while it answered."""
    return Refusal(status, message, reason=Reason.UPSTREAM)


def over_budget(tokens: int, *, wait: float | None) -> Refusal:
    """429 for a tenant whose tokens are used up; `wait` in seconds, None if waiting does not help."""
    if wait is None:
        return Refusal(
            429,
            f"The request may use {tokens} tokens, more than this API key has a minute: lower max_tokens",
            reason=Reason.BUDGET,
        )
    return Refusal(
        429,
        f"The request may use {tokens} tokens, more than this API key has left; try again",
        reason=Reason.BUDGET,
        retry_after=wait,
    )
