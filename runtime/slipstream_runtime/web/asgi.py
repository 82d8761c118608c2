"""Small helpers for ASGI; a web framework would double the memory of a simulated engine."""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Coroutine, Mapping, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

BODY_LIMIT = 16 * 1024 * 1024
"""Bytes of a body's text: more than a million tokens."""
MEDIA_LIMIT = 64 * 1024 * 1024
"""Bytes of a body with images, audio or video. OpenAI's guide allows 50 MB."""
_LINGER_BYTES = 1024 * 1024
"""Bytes of an unread body that are received and dropped after the response."""
_LINGER_SECONDS = 0.5
"""Time for these bytes; longer than a client on the same network needs."""


class DisconnectedError(Exception):
    """Client that disconnected before its request was complete."""


class TooLargeError(Exception):
    """Body that is larger than the limit."""


async def read(receive: Receive, *, limit: int = BODY_LIMIT) -> bytes:
    """Return the complete body of the request."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise DisconnectedError
        part: bytes = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise TooLargeError
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


def lingering(send: Send, receive: Receive) -> Send:
    """Return a `send` for a response before the request's body was read, which ends it after the body.

    A server that closes a connection with unread data resets it, and the client can lose the response (RFC 9112, 9.6).
    """

    async def lingering_send(message: Message) -> None:
        if message["type"] != "http.response.body" or message.get("more_body", False):
            await send(message)
            return
        await send({**message, "more_body": True})
        with contextlib.suppress(DisconnectedError, TooLargeError, TimeoutError):
            async with asyncio.timeout(_LINGER_SECONDS):
                await read(receive, limit=_LINGER_BYTES)
        await send({"type": "http.response.body", "body": b""})

    return lingering_send


async def disconnected(receive: Receive) -> None:
    """Return when the client disconnects."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def unless_disconnected(work: Coroutine[Any, Any, None], receive: Receive) -> bool:
    """Do the work until the client disconnects; return False if it disconnected first."""
    working = asyncio.create_task(work)
    leaving = asyncio.create_task(disconnected(receive))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
            return True
        return False
    finally:
        working.cancel()
        leaving.cancel()


async def start(
    send: Send, *, status: int, kind: str, headers: Mapping[str, str] | None = None
) -> None:
    """Send the status and headers of a response whose body follows."""
    fields = [(b"content-type", kind.encode())]
    fields += [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    await send({"type": "http.response.start", "status": status, "headers": fields})


def close_after(start: Message) -> None:
    """Add the header that closes the connection after this response."""
    start["headers"] = [*start.get("headers", ()), (b"connection", b"close")]


async def respond(
    send: Send,
    body: bytes,
    *,
    status: int = 200,
    kind: str = "text/plain; charset=utf-8",
    headers: Mapping[str, str] | None = None,
) -> None:
    """Send a complete response."""
    length = {"content-length": str(len(body))}
    await start(send, status=status, kind=kind, headers={**length, **(headers or {})})
    await send({"type": "http.response.body", "body": body})


async def respond_json(
    send: Send,
    content: Mapping[str, object],
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> None:
    """Send a complete JSON response."""
    body = json.dumps(content).encode()
    await respond(send, body, status=status, kind="application/json", headers=headers)
