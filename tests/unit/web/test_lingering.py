"""A response before the request's body was read: the client gets it whole, and the body is dropped within bounds."""

import asyncio

import pytest

from slipstream_runtime.web import asgi

PART: asgi.Message = {"type": "http.request", "body": b"x" * 300_000, "more_body": True}
LAST: asgi.Message = {"type": "http.request", "body": b"x", "more_body": False}
LEFT: asgi.Message = {"type": "http.disconnect"}


async def answered(*messages: asgi.Message) -> list[str]:
    """Return what happened, in order, while a client sent these messages and then nothing more."""
    happened: list[str] = []
    coming = list(messages)

    async def receive() -> asgi.Message:
        if not coming:
            await asyncio.Event().wait()
        happened.append("received")
        return coming.pop(0)

    async def send(message: asgi.Message) -> None:
        if message["type"] == "http.response.body":
            happened.append("sent" if message.get("more_body", False) else "ended")

    await asgi.respond(asgi.lingering(send, receive), b"no", status=404)
    return happened


@pytest.mark.parametrize(
    ("messages", "received"),
    [((LAST,), 1), ((PART, PART, LAST), 3), ((PART, LEFT), 2), ((PART,) * 9, 4), ((PART,), 1)],
    ids=["small", "in parts", "disconnects", "too large", "stalls"],
)
async def test_the_response_is_sent_first_and_ends_after_the_body(
    messages: tuple[asgi.Message, ...], received: int
) -> None:
    assert await answered(*messages) == ["sent", *["received"] * received, "ended"]
