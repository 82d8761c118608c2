"""Admission of requests: run, wait or refuse, decided before a response begins.

Belongs to one event loop and never blocks it: a turn is a future, so whoever waits can also watch its client.
"""

import asyncio
import collections


class FullError(Exception):
    """All places are taken, and all places in the queue."""


class Gate:
    """At most `concurrency` are inside (None: any number), at most `queue` wait, first come first served."""

    def __init__(self, *, concurrency: int | None, queue: int) -> None:
        self._concurrency = concurrency
        self._queue = queue
        self._waiting: collections.OrderedDict[asyncio.Future[None], None] = (
            collections.OrderedDict()
        )
        self.inside = 0

    @property
    def waiting(self) -> int:
        """Turns that have not come."""
        return len(self._waiting)

    def enter(self) -> bool:
        """Take a place if one is free; False if not."""
        if self._concurrency is not None and self.inside >= self._concurrency:
            return False
        self.inside += 1
        return True

    def wait(self) -> asyncio.Future[None]:
        """A turn, which is done once its place is taken; FullError if the queue is full."""
        if len(self._waiting) >= self._queue:
            raise FullError
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[turn] = None
        return turn

    def give_up(self, turn: asyncio.Future[None]) -> None:
        """Leave the queue, or the place if the turn has come meanwhile."""
        if turn.done():
            self.leave()
        else:
            del self._waiting[turn]
            turn.cancel()

    def leave(self) -> None:
        """Free a place: the one who waits longest takes it."""
        if self._waiting:
            turn, _ = self._waiting.popitem(last=False)
            turn.set_result(None)
        else:
            self.inside -= 1
