"""Heads of requests without an end, before any key is known."""

import asyncio
import contextlib
from typing import Final

from benchmarks.borders import wire
from benchmarks.borders.wire import CONNECTIONS, Deadline, Target

_BYTES: Final = 60 * 2**20
"""Bytes of one head."""
_LINES: Final = b"a:b\r\n" * 20_000
_TRICKLE_SECONDS: Final = 3.0


async def endless(target: Target, deadline: Deadline) -> None:
    """Send header lines until the server closes the connection, on two connections at a time."""

    async def once() -> None:
        async with (
            asyncio.timeout(deadline.left),
            wire.connection(target.port) as (_, writer),
        ):
            await wire.write(writer, b"GET /v1/models HTTP/1.1\r\nhost: x\r\n")
            for _ in range(_BYTES // len(_LINES)):
                await wire.write(writer, _LINES)
            await asyncio.sleep(deadline.left)

    await wire.repeatedly(once, deadline, at_once=2)


async def long_line(target: Target, deadline: Deadline) -> None:
    """Send one header line without an end."""

    async def once() -> None:
        async with asyncio.timeout(deadline.left), wire.connection(target.port) as (_, writer):
            await wire.write(writer, b"GET /v1/models HTTP/1.1\r\nhost: x\r\na: ")
            for _ in range(_BYTES // len(_LINES)):
                await wire.write(writer, b"b" * len(_LINES))
            await asyncio.sleep(deadline.left)

    await wire.repeatedly(once, deadline, at_once=2)


async def half(target: Target, deadline: Deadline) -> None:
    """Hold connections whose head gets a line more every few seconds."""

    async def stay() -> None:
        while not deadline.over:
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(deadline.left), wire.connection(target.port) as (_, w):
                    await wire.write(w, b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n")
                    while not w.transport.is_closing():
                        await asyncio.sleep(_TRICKLE_SECONDS)
                        await wire.write(w, b"a: b\r\n")
            await asyncio.sleep(min(1.0, deadline.left))

    async with asyncio.TaskGroup() as group:
        for _ in range(CONNECTIONS):
            group.create_task(stay())
            await asyncio.sleep(0.002)
