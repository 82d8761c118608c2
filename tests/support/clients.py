"""Requests as a server passes them to an ASGI application, and applications for them to reach."""

import asyncio
import contextlib
from collections.abc import Callable

from slipstream_runtime.host.lifecycle import Lifecycle, Phase
from slipstream_runtime.web import asgi

KEY = "key"
CHAT = "/v1/chat/completions"
SSE = [(b"content-type", b"text/event-stream; charset=utf-8")]


class Client:
    """One request as a server would pass it to the application."""

    def __init__(self, *parts: bytes) -> None:
        self.sent: list[asgi.Message] = []
        self.gone = asyncio.Event()
        self._parts = list(parts or [b"{}"])

    async def receive(self) -> asgi.Message:
        if self._parts:
            body = self._parts.pop(0)
            return {"type": "http.request", "body": body, "more_body": bool(self._parts)}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: asgi.Message) -> None:
        self.sent.append(message)

    @property
    def status(self) -> int:
        status: int = self.sent[0]["status"]
        return status

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.sent[0]["headers"])

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent[1:])

    @property
    def complete(self) -> bool:
        return self.sent[-1]["type"] == "http.response.body" and not self.sent[-1].get("more_body")


JSON = (b"content-type", b"application/json")


def request(
    path: str = CHAT, *, method: str = "POST", headers: list[tuple[bytes, bytes]] | None = None
) -> asgi.Scope:
    return {"type": "http", "method": method, "path": path, "headers": [JSON, *(headers or [])]}


def life_in(phase: Phase) -> Lifecycle:
    life = Lifecycle(clock=lambda: 0.0)
    for step in Phase:
        if step is Phase.STARTING:
            continue
        life.enter(step)
        if step is phase:
            break
    return life


async def answer(scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
    await receive()
    await asgi.respond_json(send, {"ok": True})


class Held:
    """An application that answers when told, and notices that its client left, as vLLM's does."""

    def __init__(self, *, begin: bool, headers: list[tuple[bytes, bytes]] | None = None) -> None:
        self.release = asyncio.Event()
        self.left = 0
        self._begin = begin
        self._headers = headers or SSE

    async def __call__(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        await receive()
        if self._begin:
            await send({"type": "http.response.start", "status": 200, "headers": self._headers})
            await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
        departure = asyncio.ensure_future(receive())
        release = asyncio.ensure_future(self.release.wait())
        await asyncio.wait({departure, release}, return_when=asyncio.FIRST_COMPLETED)
        if departure.done() and departure.result()["type"] == "http.disconnect":
            self.left += 1
            release.cancel()
            await self._say(send)
            return
        departure.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await departure
        await self._say(send)

    async def _say(self, send: asgi.Send) -> None:
        if not self._begin:
            await asgi.respond_json(send, {"ok": True})
        else:
            body = b"data: [DONE]\n\n"
            await send({"type": "http.response.body", "body": body, "more_body": False})


async def turns(condition: Callable[[], bool]) -> None:
    """Let the loop turn until the condition holds."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 (turns of the loop, not time)
            await asyncio.sleep(0)
