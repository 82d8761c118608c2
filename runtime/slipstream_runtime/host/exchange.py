"""One request and its response, which can be ended before it is complete."""

import asyncio
import json
from typing import Final

from slipstream_runtime.host.lifecycle import Lifecycle
from slipstream_runtime.web import asgi
from slipstream_runtime.web.refusal import Refusal

_FINISH_SECONDS: Final = 1.0
"""How long the last words to a client may take; a client that does not read gets none."""


class Exchange:
    """Connection between the client and the application, seen from both sides."""

    def __init__(self, receive: asgi.Receive, send: asgi.Send, *, life: Lifecycle) -> None:
        self._receive = receive
        self._send = send
        self._life = life
        self._status: int | None = None
        self._streams_events = False
        self._complete = False
        self._body: asgi.Message | None = None
        self._cut = asyncio.Event()
        self._why: Refusal | None = None

    @property
    def over(self) -> bool:
        """Whether it is complete, or was ended before."""
        return self._complete or self._why is not None

    def end(self, why: Refusal) -> None:
        """The application hears that the client left, the client hears why; only the first reason counts."""
        if self._why is None:
            self._why = why
            self._cut.set()

    def replay(self, body: bytes) -> None:
        """Give the application this body, in place of the one that was read."""
        self._body = {"type": "http.request", "body": body, "more_body": False}

    async def run(self, app: asgi.Application, scope: asgi.Scope) -> None:
        """Let the application answer."""
        try:
            await app(scope, self.receive, self.send)
        except Exception:
            # NB: an application whose client left may fail as it likes; nobody is there to hear of it.
            if self._why is None:
                raise

    async def receive(self) -> asgi.Message:
        """The client's next message, or its departure once the exchange is ended."""
        if self._body is not None:
            body, self._body = self._body, None
            return body
        return await self._next()

    async def left(self) -> None:
        """Return once the client leaves, or the exchange is ended."""
        while (await self._next())["type"] != "http.disconnect":
            pass

    async def _next(self) -> asgi.Message:
        coming = asyncio.ensure_future(self._receive())
        cut = asyncio.ensure_future(self._cut.wait())
        try:
            await asyncio.wait({coming, cut}, return_when=asyncio.FIRST_COMPLETED)
            if self._why is not None:
                return {"type": "http.disconnect"}
            return await coming
        finally:
            coming.cancel()
            cut.cancel()

    async def send(self, message: asgi.Message) -> None:
        """Pass the application's message on; after the end, nothing."""
        if self._why is not None:
            return
        if message["type"] == "http.response.start":
            self._begin(message)
        await self._send(message)
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self._complete = True

    async def close(self) -> None:
        """Tell the client why the exchange was ended, if it was, and there is something left to tell."""
        if self._why is not None and not self._complete:
            async with asyncio.timeout(_FINISH_SECONDS):
                await self._last_words(self._why)

    def _begin(self, message: asgi.Message) -> None:
        self._status = message["status"]
        self._streams_events = any(
            name.lower() == b"content-type" and value.startswith(b"text/event-stream")
            for name, value in message.get("headers", ())
        )
        if self._life.leaving:
            asgi.close_after(message)

    async def _last_words(self, why: Refusal) -> None:
        if self._status is None:
            await why.answer(self._send, close=self._life.leaving)
        elif self._streams_events:
            # NB: no [DONE] after it, which would call the truncated answer whole.
            event = b"data: " + json.dumps(why.content).encode() + b"\n\n"
            await self._send({"type": "http.response.body", "body": event, "more_body": False})
        else:
            raise ConnectionAbortedError("cut in the middle of a response that cannot say so")
