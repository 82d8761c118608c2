"""Admission of requests: run, wait or refuse, decided before a response begins.

Belongs to one event loop and never blocks it: a waiter is a future, so whoever waits can also watch its client.
"""

import asyncio
import collections


class QueueFullError(Exception):
    """All engine_slots are taken, and all places in the queue."""


class Slots:
    """At most `concurrency` are taken (None: any number), at most `queue` wait, first come first served."""

    def __init__(self, *, concurrency: int | None, queue: int) -> None:
        self._concurrency = concurrency
        self._queue = queue
        self._waiting: collections.OrderedDict[asyncio.Future[None], None] = (
            collections.OrderedDict()
        )
        self.taken = 0

    @property
    def waiting(self) -> int:
        """Turns that have not come."""
        return len(self._waiting)

    def take(self) -> bool:
        """Take a place if one is free; False if not."""
        if self._concurrency is not None and self.taken >= self._concurrency:
            return False
        self.taken += 1
        return True

    def wait(self) -> asyncio.Future[None]:
        """A waiter, which is done once its place is taken; QueueFullError if the queue is full."""
        if len(self._waiting) >= self._queue:
            raise QueueFullError
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[waiter] = None
        return waiter

    def give_up(self, waiter: asyncio.Future[None]) -> None:
        """Leave the queue, or the place if the waiter has come meanwhile."""
        if waiter.done():
            self.release()
        else:
            del self._waiting[waiter]
            waiter.cancel()

    def release(self) -> None:
        """Free a place: the one who waits longest takes it."""
        if self._waiting:
            waiter, _ = self._waiting.popitem(last=False)
            waiter.set_result(None)
        else:
            self.taken -= 1
