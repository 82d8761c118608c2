"""`python -m benchmarks.borders.hostile PORT`: an engine of a tenant's own image, whose pages and answers have no end.

Its page of metrics has none for a moment after each request.
"""

import asyncio
import sys
import time
from typing import Final

from benchmarks.borders.attacks import engines

_MOMENT: Final = 3.0
"""Seconds."""
_CHUNK: Final = b"x" * 2**18
_PAGE: Final = b'vllm:num_requests_running{a="' + b"x" * 1000 + b'"} 1\n'
_EVENTS: Final = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)
_JSON: Final = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
)
_WELL: Final = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok"
_SCRIPT: Final = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 25\r\nconnection: close\r\n\r\n"
    b"<script>alert(1)</script>"
)


class _Engine:
    """State of the engine."""

    asked = -_MOMENT
    """Time of the last request, on the monotonic clock."""


async def _endless(writer: asyncio.StreamWriter, part: bytes, *, chunked: bool = True) -> None:
    whole = b"%x\r\n%s\r\n" % (len(part), part) if chunked else part
    while True:
        writer.write(whole)
        await writer.drain()


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        body = b""
        for line in head.split(b"\r\n"):
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                body = await reader.readexactly(int(value))
        if head.startswith(b"POST"):
            _Engine.asked = time.monotonic()
        if head.startswith(b"GET /metrics") and time.monotonic() - _Engine.asked < _MOMENT:
            writer.write(_JSON.replace(b"application/json", b"text/plain"))
            await _endless(writer, _PAGE * 200)
        elif engines.EVENT.encode() in body:
            writer.write(_EVENTS)
            await _endless(writer, b'data: {"usage":' + _CHUNK)
        elif engines.CHUNKS.encode() in body:
            writer.write(_EVENTS)
            await _endless(writer, b'"usage"')
        elif engines.BODY.encode() in body:
            writer.write(_JSON)
            await _endless(writer, _CHUNK)
        elif engines.HEAD.encode() in body:
            writer.write(b"HTTP/1.1 200 OK\r\n")
            await _endless(writer, b"a: b\r\n" * 1000, chunked=False)
        else:
            writer.write(_SCRIPT if engines.SCRIPT.encode() in body else _WELL)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.transport.abort() if writer.is_closing() else writer.close()


async def _serve(port: int) -> None:
    server = await asyncio.start_server(_answer, "127.0.0.1", port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))
