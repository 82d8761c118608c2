"""The few lines of ASGI that are needed around vLLM's own application."""

import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


async def respond(
    send: Send,
    body: bytes,
    *,
    status: int = 200,
    kind: str = "text/plain; charset=utf-8",
    headers: Mapping[str, str] | None = None,
) -> None:
    """Send a whole response."""
    fields = {"content-type": kind, "content-length": str(len(body)), **(headers or {})}
    raw = [(name.encode(), value.encode()) for name, value in fields.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


async def respond_json(
    send: Send,
    content: Mapping[str, object],
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> None:
    """Send a whole JSON response."""
    body = json.dumps(content).encode()
    await respond(send, body, status=status, kind="application/json", headers=headers)


def error(message: str, *, kind: str, status: int) -> dict[str, object]:
    """An error in the form of the OpenAI API."""
    return {"error": {"message": message, "type": kind, "param": None, "code": status}}
