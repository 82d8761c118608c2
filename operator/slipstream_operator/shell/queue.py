"""A queue of keys: a key waits at most once, is worked on by one worker at a time, and comes back after errors."""

import asyncio
import random
from collections.abc import Callable, Iterable
from typing import Final

from slipstream_operator.core.observed import Key

FIRST_DELAY: Final = 0.25
LONGEST_DELAY: Final = 60.0
JITTER: Final = 0.2


class Queue:
    """Keys in the order in which they were added."""

    def __init__(self, *, jitter: Callable[[], float] = random.random) -> None:
        self._jitter = jitter
        self._waiting: dict[Key, None] = {}
        self._working: set[Key] = set()
        self._again: set[Key] = set()
        self._later: dict[Key, asyncio.TimerHandle] = {}
        self._failures: dict[Key, int] = {}
        self._arrived = asyncio.Event()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, key: Key) -> None:
        """Have the key looked at soon; again, if it is being looked at now."""
        if later := self._later.pop(key, None):
            later.cancel()
        if key in self._working:
            self._again.add(key)
            return
        self._waiting[key] = None
        self._arrived.set()

    def add_all(self, keys: Iterable[Key]) -> None:
        """Have all of these looked at soon."""
        for key in keys:
            self.add(key)

    def add_later(self, key: Key, delay: float) -> None:
        """Have the key looked at in `delay` seconds, or sooner if something happens."""
        loop = asyncio.get_running_loop()
        when = loop.time() + delay
        known = self._later.get(key)
        if known is not None and known.when() <= when:
            return
        if known is not None:
            known.cancel()
        self._later[key] = loop.call_at(when, self._due, key)

    def retry(self, key: Key) -> float:
        """Have the key looked at after a delay that doubles with each failure in a row; the delay in seconds."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        delay = min(FIRST_DELAY * 2.0 ** min(failures, 16), LONGEST_DELAY)  # 2.0**1024 overflows
        delay *= 1 + JITTER * (2 * self._jitter() - 1)
        self.add_later(key, delay)
        return delay

    def succeeded(self, key: Key) -> None:
        """Forget earlier failures."""
        self._failures.pop(key, None)

    async def get(self) -> Key:
        """The next key; the caller must call `done` with it.

        Others have their turn before: work that waits for nothing would hold them up for as long as keys wait.
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
        """The worker is through with the key."""
        self._working.discard(key)
        if key in self._again:
            self._again.discard(key)
            self.add(key)

    def _due(self, key: Key) -> None:
        del self._later[key]
        self.add(key)
