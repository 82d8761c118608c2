"""Memory of the processes of the lab, and their end where they go beyond their limit, as in a container."""

import contextlib
import threading
from collections.abc import Sequence
from typing import Final

import psutil

_SECONDS: Final = 0.05
"""Seconds between two looks at a process, which can grow by some tens of MiB meanwhile."""
MIB: Final = 2**20


def anonymous(process: psutil.Process) -> int:
    """Return the bytes of a process and its children that the kernel can't take back."""
    found = 0
    with contextlib.suppress(psutil.Error):
        for each in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                memory = each.memory_info()
                found += memory.rss - memory.shared
    return found


class Watched:
    """One process, its limit, and the most that it had since the last `reset`."""

    def __init__(self, name: str, process: psutil.Process, limit: int) -> None:
        self.name = name
        self.process = process
        self.limit = limit
        self.peak = 0
        self.beyond = False
        """Whether it was ended because it went beyond its limit."""

    @property
    def now(self) -> int:
        return anonymous(self.process)

    @property
    def alive(self) -> bool:
        with contextlib.suppress(psutil.Error):
            return self.process.is_running() and self.process.status() != psutil.STATUS_ZOMBIE
        return False

    def reset(self) -> None:
        self.peak = self.now

    def look(self) -> None:
        now = self.now
        self.peak = max(self.peak, now)
        if now > self.limit:
            self.beyond = True
            with contextlib.suppress(psutil.Error):
                for each in (*self.process.children(recursive=True), self.process):
                    each.kill()


class Watch:
    """A thread that looks at all processes."""

    def __init__(self) -> None:
        self._watched: Sequence[Watched] = ()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def at(self, watched: Sequence[Watched]) -> None:
        """Look at these from now on."""
        self._watched = tuple(watched)

    def _run(self) -> None:
        while not self._stop.wait(_SECONDS):
            for each in self._watched:
                each.look()
