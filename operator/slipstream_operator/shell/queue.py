"""Queue of keys to reconcile. A key is queued at most once, has one worker at a time, and returns after errors."""

import asyncio
import random
from collections.abc import Callable, Iterable
from typing import Final

from slipstream_operator.core.observed import Key

FIRST_DELAY: Final = 0.25
"""Seconds until the first retry; each further one waits twice as long."""
LONGEST_DELAY: Final = 60.0
"""Seconds."""
JITTER: Final = 0.2
"""Largest random change of a delay, as a share of it."""


class Queue:
    """Queued keys, first in, first out."""

    def __init__(self, *, jitter: Callable[[], float] = random.random) -> None:
        self._jitter = jitter
        self._waiting: dict[Key, None] = {}
        self._working: set[Key] = set()
        self._requeued: set[Key] = set()
        self._later: dict[Key, asyncio.TimerHandle] = {}
        self._failures: dict[Key, int] = {}
        self._arrived = asyncio.Event()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, key: Key) -> None:
        """Queue the key. If a worker has it now, queue it again afterwards."""
        if later := self._later.pop(key, None):
            later.cancel()
        if key in self._working:
            self._requeued.add(key)
            return
        self._waiting[key] = None
        self._arrived.set()

    def add_all(self, keys: Iterable[Key]) -> None:
        """Queue all of these keys."""
        for key in keys:
            self.add(key)

    def add_later(self, key: Key, delay: float) -> None:
        """Queue the key in `delay` seconds, unless it is queued before."""
        loop = asyncio.get_running_loop()
        when = loop.time() + delay
        known = self._later.get(key)
        if known is not None and known.when() <= when:
            return
        if known is not None:
            known.cancel()
        self._later[key] = loop.call_at(when, self._due, key)

    def retry(self, key: Key) -> float:
        """Queue the key after a delay that doubles with each failure in a row; return the delay in seconds."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        delay = min(FIRST_DELAY * 2.0 ** min(failures, 16), LONGEST_DELAY)  # 2.0**1024 overflows
        delay *= 1 + JITTER * (2 * self._jitter() - 1)
        self.add_later(key, delay)
        return delay

    def succeeded(self, key: Key) -> None:
        """Reset the delay of the next retry."""
        self._failures.pop(key, None)

    async def get(self) -> Key:
        """Wait for the next key and return it; the caller must call `done` with it.

        Other tasks run first: workers that never wait for I/O would block them while keys are queued.
        """
        await asyncio.sleep(0)
        while not self._waiting:
            self._arrived.clear()
            await self._arrived.wait()
        key = next(iter(self._waiting))
        del self._waiting[key]
        self._working.add(key)
        return key

    def done(self, key: Key) -> None:
        """Release a key that a worker has finished."""
        self._working.discard(key)
        if key in self._requeued:
            self._requeued.discard(key)
            self.add(key)

    def _due(self, key: Key) -> None:
        del self._later[key]
        self.add(key)
