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
async def serving(*, most: int | None = None) -> AsyncIterator[int]:
    listener = socket.create_server(("127.0.0.1", 0))
    server = Server(echo, lifespan=False)
    if most is not None:
        server.config.http.keywords["shared"].most = most  # type: ignore[union-attr]
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
        ([LINE + b"a: " + b"b" * 70_000 + b"\r\n\r\n"], b"431"),
        ([LINE + b"a: ", *[b"b" * 60_000] * 20], b"431"),
        ([b"GET /", *[b"b" * 60_000] * 20], b"431"),
        ([LINE + b"transfer-encoding: chunked\r\n\r\n0\r\n", *[b"t: u\r\n" * 9_000] * 4], b"431"),
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
