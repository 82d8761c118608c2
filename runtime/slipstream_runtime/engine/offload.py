"""Disk tier of offloaded KV cache blocks: vLLM never deletes its files, so the oldest are deleted here.

A deleted block is a miss for vLLM, also between its lookup and its load, and is computed again.
"""

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from slipstream_runtime import logs

FULL: Final = 0.85
"""Share of the limit above which files are deleted; the kubelet evicts a pod whose volume exceeds its limit."""
ROOM: Final = 0.75
"""Share of the limit that remains after a deletion."""
_FASTEST_BYTES_PER_SECOND: Final = 2e9
"""Rate at which a fast disk fills, from which the time of the next check follows."""
_SOONEST, _LATEST = 1.0, 30.0
"""Seconds between two checks, at least and at most."""
_BLOCKS: Final = ".bin"


class _File(NamedTuple):
    written: float
    path: str
    size: int


class Pruner:
    """Pruner that keeps a folder of blocks below a size in bytes."""

    def __init__(self, folder: Path, *, limit: int) -> None:
        self._folder = folder
        self._limit = limit

    def start(self) -> None:
        """Prune regularly on a new thread, until the process ends."""
        threading.Thread(target=self._run, name="offload pruner", daemon=True).start()

    def prune(self) -> float:
        """Delete the oldest blocks if the folder is nearly full; return the seconds until the next check."""
        files = list(_files(self._folder))
        used = sum(file.size for file in files)
        if used > FULL * self._limit:
            used -= self._delete(files, excess=used - ROOM * self._limit)
        room = max(0.0, FULL * self._limit - used)
        return min(max(room / _FASTEST_BYTES_PER_SECOND, _SOONEST), _LATEST)

    def _delete(self, files: list[_File], *, excess: float) -> int:
        freed = count = 0
        for file in sorted(file for file in files if file.path.endswith(_BLOCKS)):
            if freed >= excess:
                break
            Path(file.path).unlink(missing_ok=True)
            freed, count = freed + file.size, count + 1
        logs.event("offloaded blocks deleted", files=count, bytes=freed)
        return freed

    def _run(self) -> None:
        while True:
            try:
                pause = self.prune()
            except OSError as error:
                logs.failure("offloaded blocks could not be deleted", error=error)
                pause = _LATEST
            time.sleep(pause)


def _files(folder: Path) -> Iterator[_File]:
    """Yield all files below the folder; files that vanish meanwhile are left out."""
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _files(Path(entry.path))
                continue
            with contextlib.suppress(FileNotFoundError):
                found = entry.stat(follow_symlinks=False)
                yield _File(found.st_mtime, entry.path, found.st_size)
