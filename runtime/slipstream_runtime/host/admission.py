"""Admission of requests: each runs, waits or is refused before its response begins.

It belongs to one event loop and never blocks it: a waiter is a future, so its request can also watch
the client.
"""

import asyncio
import collections


class QueueFullError(Exception):
    """No slot is free, and the queue is full."""


class Slots:
    """Slots for requests, given first come, first served: `concurrency` run (None: any number), `queue` wait.

    A request takes a place for each answer that it asks for.
    """

    def __init__(self, *, concurrency: int | None, queue: int) -> None:
        self._concurrency = concurrency
        self._queue = queue
        self._waiting: collections.OrderedDict[asyncio.Future[None], int] = (
            collections.OrderedDict()
        )
        """Waiter -> places that it needs."""
        self.taken = 0

    @property
    def waiting(self) -> int:
        """Requests that wait for a slot."""
        return len(self._waiting)

    def fitting(self, places: int) -> int:
        """Return how many places a request takes that wants this many: no more than there are."""
        return places if self._concurrency is None else min(places, self._concurrency)

    def take(self, places: int = 1) -> bool:
        """Take places; return False if there are too few free ones, or a request waits for them."""
        return not self._waiting and self._take(places)

    def wait(self, places: int = 1) -> asyncio.Future[None]:
        """Return a waiter, which is done once it has its places; QueueFullError if the queue is full."""
        if len(self._waiting) >= self._queue:
            raise QueueFullError
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[waiter] = places
        return waiter

    def give_up(self, waiter: asyncio.Future[None], places: int = 1) -> None:
        """Leave the queue, or release the places if the waiter already has them."""
        if waiter.done():
            self.release(places)
        else:
            del self._waiting[waiter]
            waiter.cancel()
            self._admit()

    def release(self, places: int = 1) -> None:
        """Release places to the requests that have waited longest."""
        self.taken -= places
        self._admit()

    def _take(self, places: int) -> bool:
        if self._concurrency is not None and self.taken + places > self._concurrency:
            return False
        self.taken += places
        return True

    def _admit(self) -> None:
        while self._waiting and self._take(next(iter(self._waiting.values()))):
            waiter, _ = self._waiting.popitem(last=False)
            waiter.set_result(None)
