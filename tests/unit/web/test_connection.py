"""Heads of requests are bounded in bytes, number and time before any key, and connections in number."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest

from slipstream_runtime.web import asgi, connection
from slipstream_runtime.web.server import Server


async def echo(scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
    """Answer with the method, path and body, and the names of the headers."""
    body = await asgi.read(receive)
    names = b",".join(sorted(name for name, _ in scope["headers"]))
    await asgi.respond(send, f"{scope['method']} {scope['path']} ".encode() + body + b" " + names)


@contextlib.asynccontextmanager
async def serving(
    app: asgi.Application = echo, *, most: int | None = None, bodies: int | None = None
) -> AsyncIterator[int]:
    listener = socket.create_server(("127.0.0.1", 0))
    server = Server(app, lifespan=False)
    shared = server.config.http.keywords["shared"]  # type: ignore[union-attr]
    shared.most = most or shared.most
    shared.bodies = bodies or shared.bodies
    running = asyncio.create_task(server.serve(sockets=[listener]))
    await server.listening.wait()
    try:
        yield listener.getsockname()[1]
    finally:
        server.stop()
        await running


async def closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def answer(port: int, *parts: bytes) -> bytes:
    """Return all that the server answers to these parts until it closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with contextlib.suppress(ConnectionError):
        for part in parts:
            writer.write(part)
            await writer.drain()
    received = b""
    with contextlib.suppress(ConnectionError):
        while part := await reader.read(65536):
            received += part
    await closed(writer)
    return received


LINE = b"POST /x HTTP/1.1\r\nhost: a\r\n"


@pytest.mark.parametrize(
    ("parts", "status"),
    [
        ([LINE + b"a: b\r\n" * 101 + b"\r\n"], b"431"),
        ([LINE + b"a: " + b"b" * 140_000 + b"\r\n\r\n"], b"431"),
        ([LINE + b"a: ", *[b"b" * 60_000] * 20], b"431"),
        ([b"GET /", *[b"b" * 60_000] * 20], b"431"),
        ([LINE + b"transfer-encoding: chunked\r\n\r\n0\r\n", *[b"t: u\r\n" * 9_000] * 8], b"431"),
        ([LINE + b"\x00\r\n\r\n"], b"400"),
        ([b"CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\n"], b"400"),
    ],
    ids=[
        "fields",
        "one value",
        "value without end",
        "path without end",
        "trailers",
        "NUL",
        "tunnel",
    ],
)
async def test_a_head_beyond_the_bounds_is_refused(parts: list[bytes], status: bytes) -> None:
    async with serving() as port:
        got = await answer(port, *parts)
        assert not got or got.startswith(b"HTTP/1.1 " + status)
        good = await answer(port, LINE + b"connection: close\r\ncontent-length: 2\r\n\r\nok")
        assert b"POST /x ok" in good


async def test_a_head_may_be_large_within_the_bounds() -> None:
    async with serving() as port:
        fields = b"".join(b"a%d: %s\r\n" % (number, b"b" * 600) for number in range(97))
        got = await answer(port, LINE, fields, b"connection: close\r\n\r\n")
        assert got.startswith(b"HTTP/1.1 200")


async def test_a_token_and_cookies_of_64_kib_each_pass() -> None:
    token, cookie = (name + b": " + b"b" * 64_000 + b"\r\n" for name in (b"x-token", b"cookie"))
    async with serving() as port:
        got = await answer(port, LINE, token, cookie, b"connection: close\r\n\r\n")
        assert got.startswith(b"HTTP/1.1 200")


async def test_a_head_that_does_not_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.05)
    async with serving() as port:
        assert (await answer(port, LINE)).startswith(b"HTTP/1.1 408")
        # The next head on a connection that was served before, and empty lines without a request.
        got = await answer(port, LINE + b"content-length: 0\r\n\r\n", b"GET /y HTT")
        assert got.startswith(b"HTTP/1.1 200")
        assert b"HTTP/1.1 408" in got
        assert (await answer(port, b"\r\n")).startswith(b"HTTP/1.1 408")


async def test_the_connection_that_waits_longest_gives_way_to_a_new_one() -> None:
    async with serving(most=3) as port:
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        for number, (reader, writer) in enumerate(idle):
            writer.write(LINE + b"content-length: 0\r\n\r\n")
            assert (await reader.readline()).startswith(b"HTTP/1.1 200"), number
        got = await answer(port, LINE + b"connection: close\r\n\r\n")
        assert got.startswith(b"HTTP/1.1 200")
        assert b"/x" in await idle[0][0].read()
        assert idle[0][0].at_eof()
        for _, writer in idle:
            await closed(writer)


class Held:
    """Application that reads bodies, and begins and ends its answers as the test says."""

    def __init__(self) -> None:
        self.read = asyncio.Queue[int]()
        self.begin, self.end = asyncio.Event(), asyncio.Event()

    async def __call__(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        try:
            self.read.put_nowait(len(await asgi.read(receive)))
        except asgi.DisconnectedError:
            return
        await self.begin.wait()
        await asgi.start(send, status=200, kind="text/plain")
        await send({"type": "http.response.body", "body": b"begun ", "more_body": True})
        await self.end.wait()
        await send({"type": "http.response.body", "body": b"ended"})


async def send_body(
    stack: contextlib.AsyncExitStack, port: int, size: int, *, address: str = "127.0.0.1"
) -> asyncio.StreamReader:
    """Send a request with a body of this size on a connection that stays open."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0))
    writer.write(LINE + b"content-length: %d\r\n\r\n" % size + b"x" * size)
    with contextlib.suppress(ConnectionError):
        await writer.drain()
    stack.push_async_callback(closed, writer)
    return reader


KIB = 1024


async def test_bodies_are_bounded_for_one_address_and_together_until_answers_begin() -> None:
    app = Held()
    async with serving(app, bodies=100 * KIB) as port, contextlib.AsyncExitStack() as stack:
        first = await send_body(stack, port, 30 * KIB)
        assert await app.read.get() == 30 * KIB
        refused = await (await send_body(stack, port, 30 * KIB)).readuntil(b"\r\n\r\n")
        assert refused.startswith(b"HTTP/1.1 429 Too Many Requests")
        assert b"retry-after: 1" in refused
        second = await send_body(stack, port, 40 * KIB, address="127.0.0.2")
        assert await app.read.get() == 40 * KIB
        for address in ("127.0.0.2", "127.0.0.3"):
            late = await send_body(stack, port, 40 * KIB, address=address)
            assert (await late.readline()).startswith(b"HTTP/1.1 429")
        small = await send_body(stack, port, 10 * KIB, address="127.0.0.3")
        assert await app.read.get() == 10 * KIB
        app.begin.set()
        for reader in (first, second, small):
            assert b"begun" in await reader.readuntil(b"begun")
        after = await send_body(stack, port, 45 * KIB)
        assert await app.read.get() == 45 * KIB
        app.end.set()
        for reader in (first, second, small, after):
            assert b"ended" in await reader.readuntil(b"ended")


async def test_a_body_behind_its_answer_is_not_counted() -> None:
    async def early(scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        await asgi.respond(send, b"early")

    async with serving(early, bodies=100 * KIB) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(3):
            writer.write(LINE + b"content-length: %d\r\n\r\n" % (40 * KIB))
            assert b"early" in await reader.readuntil(b"early")
            writer.write(b"x" * 40 * KIB)
        assert (await answer(port, LINE + b"connection: close\r\n\r\n")).endswith(b"early")
        await closed(writer)


OFFER = b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAEAAEAAAAIA\r\n"


@pytest.mark.parametrize(
    "body",
    [
        [b"content-length: 5\r\n\r\nhello"],
        [b"content-length: 5\r\n\r\n", b"hel", b"lo"],
        [b"transfer-encoding: chunked\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n"],
    ],
    ids=["at once", "in parts", "chunked"],
)
async def test_an_offer_of_h2c_is_ignored_and_the_body_kept(body: list[bytes]) -> None:
    async with serving() as port:
        last = b"GET /last HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
        got = await answer(port, LINE + OFFER + body[0], *body[1:], last)
        assert got.count(b"HTTP/1.1 200") == 2
        assert b"POST /x hello" in got
        assert b"GET /last" in got
        assert b"upgrade" not in got
