"""Refusals that only the router gives."""

from slipstream_runtime.web.openai import Reason
from slipstream_runtime.web.refusal import CLOSE, Refusal


def origin_forbidden(origin: str) -> Refusal:
    """Return 403 for a browser's request from an origin that no service allows."""
    return Refusal(
        403,
        f"Scripts of the origin `{origin[:200]}` may not call this service. "
        "Add it to spec.routing.cors.allowOrigins.",
        reason=Reason.FORBIDDEN,
    )


def unknown_model(model: str) -> Refusal:
    """Return 404 in vLLM's words."""
    return Refusal(
        404, f"The model `{model}` does not exist.", reason=Reason.UNKNOWN_MODEL, param="model"
    )


def queue_full() -> Refusal:
    """Return 429 for a full queue."""
    return Refusal(
        429,
        "All replicas are busy and the queue is full. Retry later.",
        reason=Reason.QUEUE_FULL,
    )


def shed() -> Refusal:
    """Return 429 for a queued request that made room for one of higher priority."""
    return Refusal(
        429,
        "The queue is full of requests with higher priority. Retry later.",
        reason=Reason.SHED,
    )


def beyond_share() -> Refusal:
    """Return 429 for a queued request of the client with the most, which made room for another client's."""
    return Refusal(
        429,
        "The queue is full, and most of it are requests of yours. Retry later.",
        reason=Reason.SHED,
    )


def no_replica() -> Refusal:
    """Return 503 for a service without a ready replica, where the route has a fallback."""
    return Refusal(503, "No replica is ready.", reason=Reason.HOLD, retry_after=1)


def stopped() -> Refusal:
    """Return 503 for a service that its owner stopped, so that no replica comes."""
    return Refusal(
        503,
        "The service is stopped because its spec.replicas is 0. Raise spec.replicas to start it.",
        reason=Reason.HOLD,
    )


def held_too_long(seconds: float) -> Refusal:
    """Return 503 for a request that got no slot in time."""
    return Refusal(
        503,
        f"No replica was free within {seconds:g} s. Retry later.",
        reason=Reason.HOLD,
    )


def draining() -> Refusal:
    """Return 503 from a router that drains."""
    return Refusal(
        503,
        "This router is shutting down. Retry now.",
        reason=Reason.DRAINING,
        headers=CLOSE,
    )


def upstream(message: str, *, status: int = 502) -> Refusal:
    """Return 502 or 504 for a replica that failed before or during its answer."""
    return Refusal(status, message, reason=Reason.UPSTREAM)


def engines_died(seconds: float) -> Refusal:
    """Return 502 for a request that engines had when they died; `seconds` is the time for which it is remembered."""
    return Refusal(
        502,
        "Replicas died while they had this request, so no further replica gets it for "
        f"{seconds / 60:g} minutes. Change the request.",
        reason=Reason.ENGINE_DIED,
    )


def over_budget(tokens: int, *, wait: float | None) -> Refusal:
    """Return 429 for a tenant without enough tokens; `wait` in seconds, None if waiting does not help."""
    if wait is None:
        return Refusal(
            429,
            f"The request may use {tokens} tokens, more than the per-minute budget of this API key. Lower max_tokens.",
            reason=Reason.BUDGET,
        )
    return Refusal(
        429,
        f"The request may use {tokens} tokens, more than this API key has left. Retry later.",
        reason=Reason.BUDGET,
        retry_after=wait,
    )


def bodies_full(most: int) -> Refusal:
    """Return 429 for a body that finds too little memory; `most` in bytes."""
    return _no_memory(
        f"The bodies of all requests in this router take {most} bytes already. Retry later."
    )


def requests_full() -> Refusal:
    """Return 429 for headers, or requests in a pipeline, that find too little memory."""
    return _no_memory(
        "The requests of this client take all the memory that it may use. Retry later."
    )


def client_bodies_full(most: int) -> Refusal:
    """Return 429 for a client whose requests take its share of the memory; `most` in bytes."""
    return _no_memory(
        f"The bodies of your requests take the {most} bytes that one client may use. Retry later."
    )


def body_beyond_memory(size: int, *, most: int) -> Refusal:
    """Return 413 for a body that no client's share of the memory can hold; both in bytes."""
    return Refusal(
        413,
        f"The body may take {size} bytes of memory or more, and one client may use {most} (router.bodyMemory of the "
        "ServingProfile). Send fewer or smaller inputs in a request.",
        reason=Reason.TOO_LARGE,
        headers=CLOSE,
    )


def text_too_large(most: int) -> Refusal:
    """Return 413 for a chat of more text than the context can hold."""
    return Refusal(
        413,
        f"The request has more than {most} bytes of text, which the context of the model can't hold. Shorten it.",
        reason=Reason.TOO_LARGE,
    )


def no_response(response_id: str, *, param: str | None = None) -> Refusal:
    """Return 404 for a stored response that no replica has."""
    return Refusal(
        404,
        f"No replica has the response `{response_id[:100]}`. A replica stores responses in its memory until it stops, "
        "and only if the service has VLLM_ENABLE_RESPONSES_API_STORE=1 in spec.template.env. "
        "Send the whole conversation as `input` instead.",
        param=param,
    )


def _no_memory(message: str) -> Refusal:
    return Refusal(429, message, reason=Reason.QUEUE_FULL, headers=CLOSE)
