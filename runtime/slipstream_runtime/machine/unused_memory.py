"""Memory of this process that it no longer uses, given back to the kernel after a peak.

glibc keeps freed memory below what is still used. Python keeps objects that refer to each other until its garbage
collector runs, which is rare in a router.
"""

import asyncio
import ctypes
import gc
import os
from pathlib import Path
from typing import Final, NoReturn

PAUSE_SECONDS: Final = 10.0
"""Seconds between two looks at the memory of the process."""
_PEAK_BYTES: Final = 24 * 1024 * 1024
"""Bytes beyond the least that the process had, from which it gives memory back. `make bench-borders` allows 64 MiB."""
_RESTS: Final = 2
"""Looks without a new peak between two attempts, since the process may use all of it: 30 s."""
_STATM: Final = Path("/proc/self/statm")


class UnusedMemory:
    """Decides at each look whether the process gives memory back."""

    def __init__(self) -> None:
        self._least: int | None = None
        self._kept = 0
        """Bytes after the last attempt."""
        self._rests = 0

    def due(self, used: int) -> bool:
        """Whether it is time to give memory back; `used` are the bytes of the process."""
        self._least = used if self._least is None else min(self._least, used)
        self._rests += 1
        if used <= self._least + _PEAK_BYTES:
            return False
        return used > self._kept + _PEAK_BYTES or self._rests > _RESTS

    def gave_back(self, used: int) -> None:
        """Note the bytes of the process after an attempt."""
        self._kept = used
        self._rests = 0


async def keep_giving_back(*, every: float = PAUSE_SECONDS) -> NoReturn:
    """Give unused memory back after each peak, until it is cancelled; `every` in seconds."""
    memory = UnusedMemory()
    while True:
        if memory.due(private()):
            give_back()
            memory.gave_back(private())
        await asyncio.sleep(every)


def give_back() -> None:
    """Collect garbage, and return free pages to the kernel where the C library can."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def private() -> int:
    """Return the bytes of this process that no file backs; 0 where the kernel does not report them."""
    try:
        _, resident, shared, *_ = map(int, _STATM.read_text().split())
    except OSError:
        return 0
    return (resident - shared) * os.sysconf("SC_PAGE_SIZE")
