"""One connection of a server: uvicorn's protocol with bounds on heads, bodies, idle time and connections."""

import asyncio
import collections
import json
import resource
from typing import Any, Final

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from slipstream_runtime.web import openai

HEAD_BYTES: Final = 128 * 1024
"""Bytes of the request line and headers of one request, as in the router; trailers count, too.

A token with many groups, and cookies, take up to 64 KiB each.
"""
HEAD_FIELDS: Final = 100
"""Headers of one request."""
HEAD_SECONDS: Final = 10.0
"""Seconds from the first byte of a head to its end."""
CONNECTIONS: Final = 4096
"""Open connections of one server; the router opens at most one for each request."""
_RESERVE: Final = 256
"""Open files that are kept for the process itself."""
_PIPELINED: Final = 32
"""Requests that may wait on a connection behind one that runs."""
_HEADS_BYTES: Final = 32 * 1024 * 1024
"""Bytes of unfinished heads on all connections."""
BODIES_BYTES: Final = 512 * 1024 * 1024
"""Bytes of all bodies whose answer has not begun. One address has at most a half of it."""
_RETRIED: Final = (429, 503)
"""Statuses after which a client can try again."""
_HOP: Final = (b"upgrade", b"http2-settings")
"""Headers of an offer of another protocol, which RFC 9110 lets a server ignore."""


class Connections:
    """Connections of one server, and those that wait for a complete head, the longest first."""

    def __init__(self, *, most: int = CONNECTIONS) -> None:
        self.most = most
        self.bodies = BODIES_BYTES
        self.waiting: dict[Connection, None] = {}
        self.heads = 0
        """Bytes of unfinished heads."""
        self._held = 0
        self._bodies: dict[Connection, int] = {}
        self._by_address: collections.Counter[str] = collections.Counter()

    def hold(self, connection: "Connection", size: int) -> bool:
        """Count bytes of a body until its answer begins; False if all bodies, or those of an address, have too many."""
        if self._full(connection.address, size):
            for other in [other for other in self._bodies if other.answering]:
                self.release(other)
            if self._full(connection.address, size):
                return False
        self._held += size
        self._bodies[connection] = self._bodies.get(connection, 0) + size
        self._by_address[connection.address] += size
        return True

    def release(self, connection: "Connection") -> None:
        """Forget the bodies of a connection."""
        if size := self._bodies.pop(connection, 0):
            self._held -= size
            self._by_address[connection.address] -= size
            if not self._by_address[connection.address]:
                del self._by_address[connection.address]

    def _full(self, address: str, more: int) -> bool:
        return (
            self._by_address[address] + more > self.bodies // 2 or self._held + more > self.bodies
        )


def usable_connections() -> int:
    """Return how many connections the open files allow, after the soft limit is raised to the hard one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard == resource.RLIM_INFINITY:
        return CONNECTIONS
    return max(1, min(CONNECTIONS, hard - _RESERVE))


class Connection(HttpToolsProtocol):
    """HTTP protocol with bounds, whose own errors have the form of the OpenAI API."""

    def __init__(self, *args: Any, shared: Connections, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._shared = shared
        self._late: asyncio.TimerHandle | None = None
        self._heard = False
        """Whether the last data held anything but a part of a head."""
        self._loose = 0
        """Bytes since then."""
        self._head_bytes = 0
        self._begun = False
        """Whether a head has begun and not ended."""
        self._fault: tuple[int, str] | None = None
        self._offered = False

    @property
    def address(self) -> str:
        """Return the address of the client."""
        return self.client[0] if self.client else ""

    @property
    def answering(self) -> bool:
        """Whether the answer has begun."""
        return self.cycle is not None and self.cycle.response_started

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept the connection; if there are too many, the one that waited longest without a request gives way."""
        super().connection_made(transport)
        if len(self.connections) > self._shared.most:
            self._make_room()
        if not self.transport.is_closing():
            self._shared.waiting[self] = None
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._unset_keepalive_if_required()
        self._in_time()
        self._count_loose(0)
        self._shared.waiting.pop(self, None)
        self._shared.release(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what arrived."""
        if self.transport.is_closing():
            return
        self._unset_keepalive_if_required()
        self._heard = False
        try:
            self._feed(data)
        except httptools.HttpParserError:
            status, message = self._fault or (400, "Invalid HTTP request received.")
            self._refuse(status, message)
            return
        self._count_loose(0 if self._heard else self._loose + len(data))
        if self._loose > HEAD_BYTES:
            self._refuse(431, f"The headers have more than {HEAD_BYTES} bytes.")
        elif self._shared.heads > _HEADS_BYTES:
            self._refuse(503, "Too many requests are incomplete. Retry later.")
        elif self.cycle is None or self.cycle.response_complete:
            self._expect_head()

    def on_message_begin(self) -> None:
        """Start a request."""
        super().on_message_begin()
        self._heard = self._begun = True
        self._head_bytes = 0

    def on_url(self, url: bytes) -> None:
        """Take a part of the request line."""
        self._count_head(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header or a trailer."""
        self._count_head(len(name) + len(value) + len(b": \r\n"))
        if len(self.headers) >= HEAD_FIELDS:
            self._fail(431, f"The request has more than {HEAD_FIELDS} headers.")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Start the application, unless the client offers another protocol."""
        self._heard = True
        self._begun = False
        self._in_time()
        self._offered = self.parser.should_upgrade()
        if self._offered:
            return
        if len(self.pipeline) >= _PIPELINED:
            self._fail(400, "Too many requests wait on this connection.")
        self._shared.waiting.pop(self, None)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        self._heard = True
        if self._offered or self.cycle.response_complete:
            return
        if not self._shared.hold(self, len(body)):
            self._fail(429, "The bodies of all requests take too much memory. Retry later.")
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End the request."""
        self._heard = True
        self._in_time()
        if not self._offered:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        self._shared.release(self)
        if self.timeout_keep_alive_task is not None:
            self._shared.waiting[self] = None
            if self._begun:
                self._expect_head()

    def send_400_response(self, msg: str) -> None:
        """Answer a malformed HTTP request, and close the connection."""
        self._refuse(400, msg)

    def _feed(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            self._feed_again(data[offer.args[0] :])

    def _feed_again(self, rest: bytes) -> None:
        """Parse the request without the offer of another protocol, such as h2c of Java's client, and what follows."""
        method = self.parser.get_method()
        if method == b"CONNECT":
            self._fail(400, "CONNECT can't work because this is no proxy.")
        version = self.parser.get_http_version().encode()
        lines = [method + b" " + self.url + b" HTTP/" + version]
        for name, value in self.headers:
            if name == b"connection":
                named = [word.strip() for word in value.split(b",")]
                value = b", ".join(word for word in named if word.lower() not in _HOP)
            if name not in _HOP and value:
                lines.append(name + b": " + value)
        self._offered = False
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.parser.feed_data(b"\r\n".join([*lines, b"", b""]))
        if rest:
            self._feed(rest)

    def _count_head(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > HEAD_BYTES:
            self._fail(431, f"The headers have more than {HEAD_BYTES} bytes.")

    def _count_loose(self, size: int) -> None:
        self._shared.heads += size - self._loose
        self._loose = size

    def _fail(self, status: int, message: str) -> None:
        """Make the parser stop, inside one of its callbacks."""
        self._fault = (status, message)
        raise httptools.HttpParserError(message)

    def _refuse(self, status: int, message: str) -> None:
        """Answer with an error unless another answer is under way, and close the connection."""
        running = self.cycle is not None and not self.cycle.response_complete
        if not (running and self.cycle.response_started):
            body = json.dumps(openai.error(message, status=status)).encode()
            head = (
                f"HTTP/1.1 {status} {openai.phrase(status)}\r\ncontent-type: application/json\r\n"
                f"content-length: {len(body)}\r\nconnection: close\r\n"
            )
            if status in _RETRIED:
                head += "retry-after: 1\r\n"
            head += "\r\n"
            self.transport.write(head.encode() + body)
        self.transport.close()

    def _expect_head(self) -> None:
        if self._late is None:
            self._late = self.loop.call_later(HEAD_SECONDS, self._head_late)

    def _head_late(self) -> None:
        self._late = None
        if self.cycle is None or self.cycle.response_complete:
            self._refuse(408, f"The headers did not arrive within {HEAD_SECONDS:g} s.")

    def _in_time(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _make_room(self) -> None:
        waiting = self._shared.waiting
        longest = next(iter(waiting), None)
        if longest is None:
            self._refuse(503, "Too many connections are open. Retry later.")
            return
        del waiting[longest]
        longest.transport.close()
        # NB: its place is free at once; the transport reports its end later.
        self.connections.discard(longest)
