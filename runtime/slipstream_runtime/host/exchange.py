"""One request and its response, which can be ended before it is complete."""

import asyncio
import collections
import dataclasses
from collections.abc import Callable
from typing import Final

from slipstream_runtime.host.lifecycle import Lifecycle
from slipstream_runtime.recording.recorder import Outcome
from slipstream_runtime.web import asgi
from slipstream_runtime.web.refusal import Refusal

_ERROR_SECONDS: Final = 1.0
"""Seconds in which a client must read the error that ends its response."""
_AHEAD_BYTES: Final = 256 * 1024
"""Bytes of a body that are received before the application reads them. The rest waits at the client."""


@dataclasses.dataclass
class _Bound:
    """Bytes of the body that may still come, and the calls once it is whole or larger."""

    left: int
    whole: Callable[[], None]
    over: Callable[[], None]


class Exchange:
    """Request and response between the client and the application; either side can end it."""

    def __init__(
        self, receive: asgi.Receive, send: asgi.Send, *, life: Lifecycle, path: str
    ) -> None:
        self._receive = receive
        self._send = send
        self._life = life
        self._path = path
        self._status: int | None = None
        self._streams_events = False
        self._complete = False
        self._unread = True
        self._ahead: collections.deque[asgi.Message] = collections.deque()
        self._coming: asyncio.Future[asgi.Message] | None = None
        self._bound: _Bound | None = None
        self._cut = asyncio.Event()
        self._why: Refusal | None = None
        self._at_begin: Callable[[], None] | None = None

    @property
    def over(self) -> bool:
        """Whether the response is complete, or was ended before."""
        return self._complete or self._why is not None

    @property
    def status(self) -> int | None:
        """Status of the response; None if none has begun."""
        if self._status is None and self._why is not None:
            return self._why.status
        return self._status

    @property
    def streams_events(self) -> bool:
        """Whether the response is a stream of events."""
        return self._streams_events

    @property
    def outcome(self) -> Outcome:
        """End of the exchange, once it is closed."""
        if self._complete or (self._why is not None and self._status is None):
            return Outcome.ANSWERED
        return Outcome.CANCELLED if self._why is None else Outcome.BROKEN

    def end(self, why: Refusal) -> None:
        """End the exchange: the application sees a disconnect, and the client gets `why`; later calls do nothing."""
        if self._why is None:
            self._why = why
            self._cut.set()

    def on_begin(self, call: Callable[[], None]) -> None:
        """Call once the response begins, or the exchange is over without one."""
        self._at_begin = call

    def begun(self) -> None:
        """Make the call that `on_begin` took; later calls do nothing."""
        call, self._at_begin = self._at_begin, None
        if call is not None:
            call()

    def replay(self, body: bytes) -> None:
        """Give the application this body instead of the one that was read."""
        self._ahead.append({"type": "http.request", "body": body, "more_body": False})

    def read_at_most(
        self, limit: int, *, whole: Callable[[], None], over: Callable[[], None]
    ) -> None:
        """Let the application read a body of at most `limit` bytes; `over` must end the exchange."""
        self._bound = _Bound(limit, whole, over)

    async def run(self, app: asgi.Application, scope: asgi.Scope) -> None:
        """Let the application answer."""
        try:
            await app(scope, self.receive, self.send)
        except Exception:
            # NB: an application may raise anything once its client has left; the error then concerns no client.
            if self._why is None:
                raise

    async def receive(self) -> asgi.Message:
        """Return the client's next message, or a disconnect once the exchange is ended."""
        return self._counted(self._ahead.popleft() if self._ahead else await self._next())

    async def left(self) -> None:
        """Return once the client leaves, or the exchange is ended; the application gets the messages before."""
        size = 0
        while size < _AHEAD_BYTES:
            message = await self._next()
            if message["type"] == "http.disconnect":
                return
            self._ahead.append(message)
            size += len(message.get("body", b""))
        await self._cut.wait()

    async def _next(self) -> asgi.Message:
        self._unread = False
        if self._coming is None:
            self._coming = asyncio.ensure_future(self._receive())
        coming = self._coming
        cut = asyncio.ensure_future(self._cut.wait())
        try:
            # NB: a caller that is cancelled leaves the message to the next one.
            await asyncio.wait((coming, cut), return_when=asyncio.FIRST_COMPLETED)
        finally:
            cut.cancel()
        if self._why is not None:
            return {"type": "http.disconnect"}
        self._coming = None
        return coming.result()

    def _counted(self, message: asgi.Message) -> asgi.Message:
        if (bound := self._bound) is None or message["type"] != "http.request":
            return message
        bound.left -= len(message.get("body", b""))
        if bound.left < 0:
            bound.over()
            return {"type": "http.disconnect"}
        if not message.get("more_body", False):
            bound.whole()
        return message

    async def send(self, message: asgi.Message) -> None:
        """Send the application's message to the client, unless the exchange is ended."""
        if self._why is not None:
            return
        if message["type"] == "http.response.start":
            self._begin(message)
        await self._send(message)
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self._complete = True

    async def close(self) -> None:
        """Send the error of an ended exchange to the client, unless its response is complete."""
        if self._coming is not None:
            self._coming.cancel()
        if self._why is not None and not self._complete:
            async with asyncio.timeout(_ERROR_SECONDS):
                await self._send_error(self._why)

    def _begin(self, message: asgi.Message) -> None:
        self.begun()
        self._status = message["status"]
        self._streams_events = any(
            name.lower() == b"content-type" and value.startswith(b"text/event-stream")
            for name, value in message.get("headers", ())
        )
        if self._life.leaving:
            asgi.close_after(message)

    async def _send_error(self, why: Refusal) -> None:
        if self._status is None:
            send = asgi.lingering(self._send, self._receive) if self._unread else self._send
            await why.answer(send, path=self._path, close=self._life.leaving)
        elif self._streams_events:
            # NB: no [DONE] follows, because it would mark the truncated answer as complete.
            event = why.event(self._path)
            await self._send({"type": "http.response.body", "body": event, "more_body": False})
        else:
            raise ConnectionAbortedError(
                "the response was cut, and its form has no place for an error"
            )
