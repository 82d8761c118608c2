"""Work on large bodies in short steps on the event loop, between which small requests are served."""

import asyncio
import contextlib
import gc
import time
from collections.abc import Generator, Iterator
from typing import Final, TypeVar

LARGE: Final = 256 * 1024
"""Bytes from which a body is parsed in turn with other large ones: it takes a millisecond or more."""
_TURN_SECONDS: Final = 0.003
"""Seconds of work after which others get the event loop."""

Value = TypeVar("Value")


class Turns:
    """Work on large bodies: one at a time, and half of the time at most, so that small requests hardly wait."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._worked = 0.0
        """Seconds since others had the event loop."""

    async def take(self, steps: Generator[None, None, Value]) -> Value:
        """Run the steps, and leave the event loop to others for as long as they took."""
        async with self._lock:
            while True:
                began = time.perf_counter()
                try:
                    with _uncollected():
                        next(steps)
                except StopIteration as end:
                    value: Value = end.value
                    return value
                finally:
                    self._worked += time.perf_counter() - began
                if self._worked > _TURN_SECONDS:
                    worked, self._worked = self._worked, 0.0
                    await asyncio.sleep(worked)


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Keep the garbage collector from new objects, among which it finds nothing."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
