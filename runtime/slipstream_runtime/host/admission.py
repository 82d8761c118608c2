"""Admission of requests: each runs, waits or is refused before its response begins.

It belongs to one event loop and never blocks it: a waiter is a future, so its request can also watch
the client.
"""

import asyncio
import collections


class QueueFullError(Exception):
    """No slot is free, and the queue is full."""


class Slots:
    """Slots for requests, given first come, first served: `concurrency` run (None: any number), `queue` wait."""

    def __init__(self, *, concurrency: int | None, queue: int) -> None:
        self._concurrency = concurrency
        self._queue = queue
        self._waiting: collections.OrderedDict[asyncio.Future[None], None] = (
            collections.OrderedDict()
        )
        self.taken = 0

    @property
    def waiting(self) -> int:
        """Requests that wait for a slot."""
        return len(self._waiting)

    def take(self) -> bool:
        """Take a slot; return False if none is free."""
        if self._concurrency is not None and self.taken >= self._concurrency:
            return False
        self.taken += 1
        return True

    def wait(self) -> asyncio.Future[None]:
        """Return a waiter, which is done once it has a slot; QueueFullError if the queue is full."""
        if len(self._waiting) >= self._queue:
            raise QueueFullError
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[waiter] = None
        return waiter

    def give_up(self, waiter: asyncio.Future[None]) -> None:
        """Leave the queue, or release the slot if the waiter already has one."""
        if waiter.done():
            self.release()
        else:
            del self._waiting[waiter]
            waiter.cancel()

    def release(self) -> None:
        """Release a slot to the request that has waited longest."""
        if self._waiting:
            waiter, _ = self._waiting.popitem(last=False)
            waiter.set_result(None)
        else:
            self.taken -= 1
