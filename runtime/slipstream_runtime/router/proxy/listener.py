"""HTTP server of the API port: aiohttp's, with a header timeout, a connection limit, and errors in OpenAI's form."""

import asyncio
import re
import socket
import ssl
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final, cast

import orjson
from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_exceptions import LineTooLong
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestHandler

from slipstream_runtime.router.messages import refusals
from slipstream_runtime.router.messages.body_memory import BodyMemory, Lease
from slipstream_runtime.router.messages.headers import SERVER
from slipstream_runtime.router.proxy.connections import Limits, peer
from slipstream_runtime.router.proxy.readers import SLOW_SECONDS, Unread
from slipstream_runtime.web import asgi
from slipstream_runtime.web.openai import Reason
from slipstream_runtime.web.refusal import CLOSE, Refusal, malformed

KEEP_ALIVE_SECONDS: Final = 75.0
"""Seconds of an idle connection, as in engines: longer than pooled clients and proxies keep theirs."""
HEAD_SECONDS: Final = 10.0
"""Seconds from the first byte of a request to the end of its headers."""
CONNECTIONS: Final = 16_384
"""Most connections of clients."""
HEAD_BYTES: Final = 128 * 1024
"""Most bytes of all headers of a request: tokens with many groups, and cookies, take up to 64 KiB each."""
_FIELD_BYTES: Final = 1024 * 1024
"""Most bytes of one header for the parser: more than it ever gets, for `HEAD_BYTES` is checked before."""
_LINGER_SECONDS: Final = 2.0
"""Seconds for a client to read the refusal of a body that was not read."""
_BACKLOG: Final = 2048
_READ_BYTES: Final = 64 * 1024
"""Bytes of a body that the parser keeps before it stops reading: a half of what it may keep."""
_PIPELINE: Final = 2
"""Requests of a connection that wait while another is answered; the rest stays in the kernel."""
_COUNTED_BYTES: Final = 4 * 1024
"""Bytes of unfinished headers that are not counted as memory."""
_UPGRADE: Final = re.compile(rb"\r\n(upgrade)[ \t]*:", re.IGNORECASE)
SHUTDOWN_SECONDS: Final = 0.1
"""Seconds for connections to end by themselves. NB: 0 means no limit in aiohttp."""

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Listener(web.Server):
    """Server that accepts connections until `close`."""

    def __init__(
        self,
        handler: Handler,
        *,
        memory: BodyMemory,
        connections: int = CONNECTIONS,
        head_seconds: float = HEAD_SECONDS,
        slow_seconds: float = SLOW_SECONDS,
        body_bytes: int = asgi.BODY_LIMIT,
    ) -> None:
        super().__init__(
            handler,
            handler_cancellation=True,
            request_factory=self._request,
        )
        self.memory = memory
        self.limits = Limits(connections)
        self.head_seconds = head_seconds
        self._servers: list[asyncio.Server] = []
        self.slow_seconds = slow_seconds
        self._body_bytes = body_bytes

    def admits(self, connection: "Connection") -> bool:
        """Whether a new connection may stay; others that are idle make room for it."""
        others = (cast(Connection, each) for each in self._connections)
        return self.limits.opened(connection, others, count=len(self._connections))

    @property
    def connected(self) -> int:
        """Number of connections of clients."""
        return len(self._connections)

    async def listen(self, bound: socket.socket, *, tls: ssl.SSLContext | None = None) -> None:
        """Accept connections of this socket, plain or with TLS."""
        loop = asyncio.get_running_loop()
        self._servers.append(
            await loop.create_server(
                self,
                sock=bound,
                backlog=_BACKLOG,
                ssl=tls,
                ssl_handshake_timeout=None if tls is None else self.head_seconds,
            )
        )

    def close_idle(self) -> None:
        """Close each connection as soon as it is idle."""
        for connection in self.connections:
            cast(Connection, connection).close_idle()

    async def close(self) -> None:
        """Stop, and close all connections."""
        for server in self._servers:
            server.close()
        await self.shutdown(SHUTDOWN_SECONDS)

    def __call__(self) -> RequestHandler:
        """Return the protocol of a new connection."""
        return Connection(
            self,
            loop=self._loop,
            keepalive_timeout=KEEP_ALIVE_SECONDS,
            access_log=None,
            lingering_time=_LINGER_SECONDS,
            auto_decompress=False,
            max_field_size=_FIELD_BYTES,
            read_bufsize=_READ_BYTES,
        )

    def _request(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: RequestHandler,
        writer: AbstractStreamWriter,
        task: "asyncio.Task[None]",
    ) -> web.BaseRequest:
        cast(Connection, protocol).began()
        return web.BaseRequest(
            message, payload, protocol, writer, task, self._loop, client_max_size=self._body_bytes
        )


class Connection(RequestHandler):
    """Connection of one client."""

    __slots__ = (
        "_head_size", "_head_timer", "_held", "_listener", "_refused", "_unread", "_wire",
        "client", "held_up", "peer",
    )  # fmt: skip

    def __init__(self, listener: Listener, **options: Any) -> None:
        super().__init__(listener, **options)
        self._listener = listener
        self._max_msg_queue_size = _PIPELINE
        self._msg_queue_resume_size = 1
        self._head_timer: asyncio.TimerHandle | None = None
        self._head_size = 0
        self._refused = False
        self._held: Lease | None = None
        """Memory of unfinished headers, or of requests behind the present one."""
        self._unread: Unread | None = None
        self._wire: asyncio.Transport | None = None
        self.peer = ""
        """Address of the client or of the proxy before it."""
        self.client = ""
        """Tenant of the last request, or the address."""
        self.held_up: Callable[[], None] | None = None
        """Callback for an answer whose engine must wait for the client."""

    @property
    def idle_since(self) -> float | None:
        """Return the time since which the connection has no request; None while it has one."""
        if self._waiter is None or self._waiter.done():
            return None
        return self._next_keepalive_close_time

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection in, and wait for the first request."""
        self._wire = cast(asyncio.Transport, transport)
        self.peer = self.client = peer(transport.get_extra_info("peername"))
        admitted = self._listener.admits(self)
        super().connection_made(transport)
        if not admitted:
            self._wire.write(_TOO_MANY)
            self.force_close()
            return
        self._wait_for_head()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Count the connection out."""
        self._head_came()
        self._give_back()
        self._listener.limits.closed(self)
        if self._unread is not None:
            self._unread.end()
            self._unread = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse data of the client, as long as there is memory for it."""
        if self._refused:
            return
        if b"pgrade" in data and self._waiter is not None:
            data = _without_upgrade(data)
        before = self._request_count
        super().data_received(data)
        if self._request_count != before:
            self._head_came()
            _forget_frames(self._messages)
            if self._waiter is None and data and not self._holds(len(data)):
                self._refuse(_NO_MEMORY)
        elif self._waiter is not None and not self._waiter.done():
            self._head_size += len(data)
            if self._head_size > HEAD_BYTES:
                self._refuse(_LARGE_HEAD)
            elif self._head_size > _COUNTED_BYTES and not self._holds(len(data)):
                self._refuse(_NO_MEMORY)
            elif self._head_timer is None:
                self._wait_for_head()

    def began(self) -> None:
        """Note that the next request is handled."""
        if self._held is not None and not self._messages:
            self._give_back()

    def pause_writing(self) -> None:
        """Keep what the client does not read, and watch its pace."""
        super().pause_writing()
        if self._wire is not None and self._unread is None:
            self._unread = Unread(
                self._wire,
                self._listener.memory,
                client=self.client,
                writer=self._writer(),
                slow_seconds=self._listener.slow_seconds,
            )

    def resume_writing(self) -> None:
        """Give the memory of read data back."""
        if self._unread is not None:
            self._unread.end()
            self._unread = None
        super().resume_writing()

    async def _drain_helper(self) -> None:
        unread = self._unread
        if unread is not None and self.transport is not None:
            unread.follow(self._writer())
            if unread.takes_more():
                return
            if self.held_up is not None:
                self.held_up()
        await super()._drain_helper()

    def _writer(self) -> AbstractStreamWriter | None:
        return None if self._current_request is None else self._current_request.writer

    def _holds(self, more: int) -> bool:
        """Whether there is memory for more bytes that no request has taken."""
        if self._held is None:
            self._held = self._listener.memory.lease(self.client)
        return self._held.try_grow(self._held.size + more)

    def _give_back(self) -> None:
        if self._held is not None:
            self._held.release()
            self._held = None

    def drop(self) -> None:
        """Close at once, also if the client has not read its last answer."""
        self.force_close()
        if self._wire is not None:
            self._wire.abort()

    def close_idle(self) -> None:
        """Close at once if idle, else after the running request."""
        if self._waiter is not None:
            self.force_close()
        else:
            self.close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer malformed HTTP and internal errors in the form of the OpenAI API."""
        if status >= 500:
            self.log_exception("request failed", exc_info=exc)
            refusal = Refusal(500, "Internal router error.")
        elif isinstance(exc, LineTooLong):
            refusal = _target_too_long()
        else:
            refusal = malformed("The request is not valid HTTP.")
        if request.writer.output_size > 0:
            raise ConnectionError("part of the answer was already sent")
        response = answer(refusal)
        response.force_close()
        return response

    def _wait_for_head(self) -> None:
        loop = self._loop
        self._head_timer = loop.call_later(self._listener.head_seconds, self._head_late)

    def _head_came(self) -> None:
        self._head_size = 0
        self._give_back()
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_late(self) -> None:
        self._head_timer = None
        if self._current_request is None:
            self._refuse(_LATE)

    def _refuse(self, answer: bytes) -> None:
        """Send an answer before any request came, and close the connection once the client could read it."""
        self._refused = True
        self._head_came()
        if self.transport is not None:
            self.transport.write(answer)
            if self.transport.can_write_eof():  # TLS has no half-closed connections
                self.transport.write_eof()
        # NB: the kernel would discard the answer if the connection closed while the client still sends.
        self._loop.call_later(_LINGER_SECONDS, self.force_close)


def _forget_frames(messages: "deque[tuple[Any, StreamReader]]") -> None:
    """Drop the traceback of a parser's error, whose frames hold the error and the data that caused it."""
    error = getattr(messages[-1][0], "exc", None) if messages else None
    if error is not None:
        error.__traceback__ = None


def _without_upgrade(data: bytes) -> bytes:
    """Return a request's first bytes without the offer of another protocol, behind which aiohttp reads no further."""
    found = _UPGRADE.search(data, 0, max(0, data.find(b"\r\n\r\n")))
    return data if found is None else data[: found.start(1)] + b"ignored" + data[found.end(1) :]


def answer(refusal: Refusal, *, path: str = "") -> web.Response:
    """Return the response for a refusal, in the form of the API that has this path."""
    return web.Response(
        status=refusal.status,
        body=orjson.dumps(refusal.content_at(path)),
        headers={"content-type": "application/json", "server": SERVER, **refusal.headers},
    )


def _raw(refusal: Refusal) -> bytes:
    body = orjson.dumps(refusal.content)
    head = (
        f"HTTP/1.1 {refusal.status.value} {refusal.status.phrase}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body


def head_too_large() -> Refusal:
    """Return 431 for headers that are too large."""
    return Refusal(
        431,
        f"The headers are larger than {HEAD_BYTES // 1024} KiB. Send smaller tokens or fewer cookies.",
        reason=Reason.TOO_LARGE,
        headers=CLOSE,
    )


def _target_too_long() -> Refusal:
    return Refusal(414, "The request target is too long.", reason=Reason.TOO_LARGE, headers=CLOSE)


_LARGE_HEAD: Final = _raw(head_too_large())
_TOO_MANY: Final = _raw(Refusal(503, "The router has reached its connection limit. Retry later."))
_NO_MEMORY: Final = _raw(refusals.requests_full())
_LATE: Final = _raw(
    Refusal(408, f"The request headers did not arrive within {HEAD_SECONDS:g} s.", headers=CLOSE)
)
