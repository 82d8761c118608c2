"""HTTP server of the API port: aiohttp's, with a header timeout, a connection limit, and errors in OpenAI's form."""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, Final, cast

import orjson
from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_exceptions import LineTooLong
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestHandler

from slipstream_runtime.router.messages.headers import SERVER
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
SHUTDOWN_SECONDS: Final = 0.1
"""Seconds for connections to end by themselves. NB: 0 means no limit in aiohttp."""

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Listener(web.Server):
    """Server that accepts connections until `close`."""

    def __init__(
        self,
        handler: Handler,
        *,
        connections: int = CONNECTIONS,
        head_seconds: float = HEAD_SECONDS,
    ) -> None:
        super().__init__(
            handler,
            handler_cancellation=True,
            request_factory=self._request,
        )
        self._most = connections
        self.head_seconds = head_seconds
        self._servers: list[asyncio.Server] = []

    @property
    def full(self) -> bool:
        """Whether the connection limit is reached."""
        return len(self._connections) >= self._most

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
            cast(_Connection, connection).close_idle()

    async def close(self) -> None:
        """Stop, and close all connections."""
        for server in self._servers:
            server.close()
        await self.shutdown(SHUTDOWN_SECONDS)

    def __call__(self) -> RequestHandler:
        """Return the protocol of a new connection."""
        return _Connection(
            self,
            loop=self._loop,
            keepalive_timeout=KEEP_ALIVE_SECONDS,
            access_log=None,
            lingering_time=_LINGER_SECONDS,
            auto_decompress=False,
            max_field_size=_FIELD_BYTES,
        )

    def _request(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: RequestHandler,
        writer: AbstractStreamWriter,
        task: "asyncio.Task[None]",
    ) -> web.BaseRequest:
        return web.BaseRequest(
            message, payload, protocol, writer, task, self._loop, client_max_size=asgi.BODY_LIMIT
        )


class _Connection(RequestHandler):
    """Connection of one client."""

    __slots__ = ("_head_size", "_head_timer", "_listener", "_refused")

    def __init__(self, listener: Listener, **options: Any) -> None:
        super().__init__(listener, **options)
        self._listener = listener
        self._head_timer: asyncio.TimerHandle | None = None
        self._head_size = 0
        self._refused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        full = self._listener.full
        super().connection_made(transport)
        if full:
            cast(asyncio.Transport, transport).write(_TOO_MANY)
            self.force_close()
            return
        self._wait_for_head()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._head_came()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        before = self._request_count
        super().data_received(data)
        if self._request_count != before:
            self._head_came()
        elif self._waiter is not None and not self._waiter.done():
            self._head_size += len(data)
            if self._head_size > HEAD_BYTES:
                self._refuse(_LARGE_HEAD)
            elif self._head_timer is None:
                self._wait_for_head()

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
_LATE: Final = _raw(
    Refusal(408, f"The request headers did not arrive within {HEAD_SECONDS:g} s.", headers=CLOSE)
)
