"""Progress of a download, which its threads update and other threads read."""

import threading
from collections.abc import Callable
from typing import Final

_WINDOW_SECONDS: Final = 30.0
"""Seconds over which the rate is measured."""


class Progress:
    """Bytes of one model: total, present, and per second."""

    def __init__(self, *, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._total: int | None = None
        self._done = 0
        self._marks: list[tuple[float, int]] = []

    def begin(self, *, total: int, present: int) -> None:
        """Add a download of `total` bytes, of which `present` bytes are in the cache already."""
        with self._lock:
            self._total = (self._total or 0) + total
            self._done += present
            self._marks = [(self._clock(), self._done)]

    def add(self, number: int) -> None:
        """Add bytes that arrived."""
        with self._lock:
            self._done += number
            now = self._clock()
            if not self._marks or now - self._marks[-1][0] >= 1.0:
                self._marks.append((now, self._done))
            while len(self._marks) > 1 and now - self._marks[1][0] > _WINDOW_SECONDS:
                self._marks.pop(0)

    @property
    def total(self) -> int | None:
        """Total bytes; None until the source has been listed."""
        return self._total

    @property
    def done(self) -> int:
        """Bytes that are present."""
        return self._done

    @property
    def rate(self) -> float | None:
        """Bytes per second of the last 30 seconds; None during the first second."""
        with self._lock:
            if not self._marks:
                return None
            (since, before), now = self._marks[0], self._clock()
            return (self._done - before) / (now - since) if now - since >= 1.0 else None
