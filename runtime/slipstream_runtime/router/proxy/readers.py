"""Clients that read their answers slowly: the router keeps a part of an answer for them, and ends the slowest.

So an engine that has computed an answer takes the next request, whatever the client does.
"""

import asyncio
from typing import Final

from aiohttp.abc import AbstractStreamWriter

from slipstream_runtime.router.messages.body_memory import BodyMemory, Lease

SPOOL_BYTES: Final = 1024 * 1024
"""Most bytes of an answer that wait for one client: about 5,000 events of a token."""
_BEHIND_BYTES: Final = 256 * 1024
"""Bytes between the engine and the router that also wait, once the client's part is full."""
SLOW_SECONDS: Final = 20.0
"""Seconds in which a client that lets data wait must read `LEAST_BYTES`."""
LEAST_BYTES: Final = 20 * 1024
"""Bytes: 1 KiB/s is a tenth of what one stream of 50 tokens/s needs."""


class Unread:
    """Data that waits for the client of one connection, from the first pause of its transport to its end."""

    def __init__(
        self,
        transport: asyncio.Transport,
        memory: BodyMemory,
        *,
        client: str,
        writer: AbstractStreamWriter | None,
        slow_seconds: float,
    ) -> None:
        self._transport = transport
        self._lease: Lease = memory.lease(client)
        self._writer = writer
        self._slow_seconds = slow_seconds
        self._taken = self._count_taken()
        if self._lease.try_grow(self._waiting + _BEHIND_BYTES):
            self._timer = self._again()
        else:
            self._timer = asyncio.get_running_loop().call_soon(transport.abort)

    def takes_more(self) -> bool:
        """Whether there is memory for more data, so that the engine need not wait for the client."""
        waiting = self._waiting
        return waiting < SPOOL_BYTES and self._lease.try_grow(waiting + _BEHIND_BYTES)

    def follow(self, writer: AbstractStreamWriter | None) -> None:
        """Note the writer of the present answer."""
        if writer is not None and writer is not self._writer:
            self._writer = writer
            self._taken = self._count_taken()

    def end(self) -> None:
        """Give the memory back."""
        self._timer.cancel()
        self._lease.release()

    @property
    def _waiting(self) -> int:
        return self._transport.get_write_buffer_size()

    def _count_taken(self) -> int:
        """Return the bytes of the answer that left for the client."""
        written = 0 if self._writer is None else self._writer.output_size
        return written - self._waiting

    def _again(self) -> asyncio.Handle:
        return asyncio.get_running_loop().call_later(self._slow_seconds, self._check)

    def _check(self) -> None:
        taken = self._count_taken()
        if taken - self._taken < LEAST_BYTES * self._slow_seconds / SLOW_SECONDS:
            self._transport.abort()
            return
        self._taken = taken
        self._timer = self._again()
