"""Connections that are held: idle ones, slow readers, and the leader of a shared answer."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Final

from benchmarks.borders import wire
from benchmarks.borders.wire import CONNECTIONS, Deadline, Target

_WINDOW_SECONDS: Final = 3


def shared_prompt() -> str:
    """Return the prompt that the leader of a shared answer and its victim have in common for some seconds."""
    return (
        f"Count to one thousand from {time.time() // _WINDOW_SECONDS:.0f}, and do not stop before."
    )


SHARED_TOKENS: Final = 200
_SLOW: Final = 64
_BUFFER: Final = 4096
"""Bytes of a slow reader's receive buffer."""


async def _held(
    count: int, deadline: Deadline, hold: Callable[[], Awaitable[None]], pause: float = 0.002
) -> None:
    """Keep `count` connections open. One that is closed is opened again, at the pace of an attacker."""

    async def one() -> None:
        while not deadline.over:
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(deadline.left):
                    await hold()
            await asyncio.sleep(min(1.0, deadline.left))

    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(one())
            await asyncio.sleep(pause)


async def idle(target: Target, deadline: Deadline) -> None:
    """Send one GET of an unknown path on each connection, and stay."""
    data = target.head("/nothing", method="GET")

    async def hold() -> None:
        async with wire.connection(target.port) as (reader, writer):
            await wire.write(writer, data)
            await reader.read()

    await _held(CONNECTIONS, deadline, hold)


async def slow_readers(target: Target, deadline: Deadline) -> None:
    """Ask for long answers, and read 512 bytes in 30 s."""
    data = target.ask(max_tokens=1500, stream=True, temperature=1.0, ignore_eos=True)

    async def hold() -> None:
        async with wire.connection(target.port, receive_buffer=_BUFFER) as (_, writer):
            await wire.write(writer, data)
            # NB: a reader of asyncio would read on by itself, so the transport stands still.
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            await asyncio.sleep(deadline.left)

    await _held(_SLOW, deadline, hold, pause=0.02)


async def shared_leader(target: Target, deadline: Deadline) -> None:
    """Lead a shared answer, and read nothing of it."""

    async def lead(prompt: str) -> None:
        data = target.ask(
            messages=[{"role": "user", "content": prompt}],
            max_tokens=SHARED_TOKENS,
            temperature=0,
            ignore_eos=True,
        )
        async with wire.connection(target.port, receive_buffer=_BUFFER) as (_, writer):
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            await wire.write(writer, data)
            await asyncio.sleep(deadline.left)

    last = ""
    async with asyncio.TaskGroup() as group:
        while not deadline.over:
            if (prompt := shared_prompt()) != last:
                last = prompt
                group.create_task(lead(prompt))
            await asyncio.sleep(0.01)


async def upgrades(target: Target, deadline: Deadline) -> None:
    """Offer h2c and websockets, with a request behind the offer."""
    offer = target.head(
        "/v1/models",
        method="GET",
        fields=["connection: upgrade, http2-settings", "upgrade: h2c", "http2-settings: AAMAAABk"],
    )
    data = offer + target.head("/v1/models", method="GET", fields=["connection: close"])
    await wire.repeatedly(
        lambda: wire.exchange(target.port, data, seconds=min(5.0, deadline.left)),
        deadline,
        at_once=25,
    )
