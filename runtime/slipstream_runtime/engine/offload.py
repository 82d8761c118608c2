"""The disk tier of offloaded KV cache blocks: vLLM writes files and never deletes one, so the oldest are deleted here.

A block that is gone is a miss for vLLM, also between its lookup and its load: it is computed again.
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
"""Share of the limit above which files are deleted: the kubelet evicts a pod whose volume is over its limit."""
ROOM: Final = 0.75
"""Share of the limit that is kept then."""
_FASTEST_BYTES_PER_SECOND: Final = 2e9
"""Rate at which a fast disk fills; decides how soon to look again."""
_SOONEST, _LATEST = 1.0, 30.0
"""Seconds between two looks."""
_BLOCKS: Final = ".bin"


class _File(NamedTuple):
    written: float
    path: str
    size: int


class Pruner:
    """Keeps a folder of blocks below a size in bytes."""

    def __init__(self, folder: Path, *, limit: int) -> None:
        self._folder = folder
        self._limit = limit

    def start(self) -> None:
        """Prune now and then, on a thread of its own, as long as the process lives."""
        threading.Thread(target=self._run, name="offload pruner", daemon=True).start()

    def prune(self) -> float:
        """Delete the oldest blocks if the folder is nearly full; return the seconds until the next look is due."""
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
    """All files below the folder; those that vanish meanwhile are left out."""
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _files(Path(entry.path))
                continue
            with contextlib.suppress(FileNotFoundError):
                found = entry.stat(follow_symlinks=False)
                yield _File(found.st_mtime, entry.path, found.st_size)
