"""Pictures that are small as bytes and large as pixels, and pictures by addresses that only the engine can reach."""

import asyncio
import base64
import struct
import zlib
from typing import Any, Final

from benchmarks.borders import wire
from benchmarks.borders.wire import HOST, Deadline, Target

_EDGE: Final = 13_300
"""Pixels of an edge: below the limit of Pillow, and 530 MB when decoded."""
_MANY: Final = 8
_MOST: Final = 2000
"""Small pictures in one request."""


def png(edge: int) -> bytes:
    """Return a black picture of this size."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        summed = kind + content
        return struct.pack(">I", len(content)) + summed + struct.pack(">I", zlib.crc32(summed))

    header = struct.pack(">IIBBBBB", edge, edge, 8, 2, 0, 0, 0)
    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(1 + 3 * edge)) for _ in range(edge)) + packer.flush()
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


def _seeing(target: Target, urls: list[str]) -> bytes:
    parts: list[dict[str, Any]] = [{"type": "text", "text": "What is this?"}]
    parts += [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return target.ask(messages=[{"role": "user", "content": parts}], max_tokens=1)


def _inside(content: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


async def large(target: Target, deadline: Deadline) -> None:
    """Send a picture of 530 MB in 1 MB."""
    await wire.sending(target, _seeing(target, [_inside(png(_EDGE))]), deadline, at_once=2)


async def several(target: Target, deadline: Deadline) -> None:
    """Send eight such pictures at once."""
    await wire.sending(target, _seeing(target, [_inside(png(_EDGE))] * _MANY), deadline, at_once=2)


async def many(target: Target, deadline: Deadline) -> None:
    """Send 2,000 small pictures at once."""
    await wire.sending(target, _seeing(target, [_inside(png(64))] * _MOST), deadline, at_once=2)


async def addresses(target: Target, deadline: Deadline) -> int:
    """Name pictures by addresses that only the engine reaches, and count the connections that it makes."""
    reached = 0

    async def count(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal reached
        reached += 1
        writer.close()

    server = await asyncio.start_server(count, HOST, 0)
    port = server.sockets[0].getsockname()[1]
    hosts = (HOST, "localhost", "0x7f000001", "2130706433", "[::ffff:127.0.0.1]", "127.1")
    urls = [f"{scheme}://{host}:{port}/a.png" for host in hosts for scheme in ("http", "https")]
    data = [_seeing(target, [url]) for url in (*urls, "file:///etc/passwd")]

    async def once() -> None:
        for each in data:
            await wire.exchange(target.port, each, seconds=deadline.left)

    async with server:
        await wire.repeatedly(once, deadline, at_once=2)
    return reached
