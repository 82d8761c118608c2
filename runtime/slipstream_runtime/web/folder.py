"""Folder of small files, such as a mounted Secret, which is read again when it changes."""

import errno
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from slipstream_runtime import logs

_CHECK_SECONDS: Final = 1.0
"""Seconds between two checks for a change, at least."""

_ABSENT: Final = (errno.ENOENT, errno.ENOTDIR)
"""Errors of a file that is not there; another one, such as that of too many open files, says nothing of its content."""

_Stamp = tuple[tuple[str, int, int, int], ...]


class Folder:
    """Files of one folder; a missing folder has none. Nothing is read until `changed` is called."""

    def __init__(self, path: Path, *, clock: Callable[[], float]) -> None:
        self._path = path
        self._clock = clock
        self._checked: float | None = None
        self._stamp: _Stamp | None = None

    @property
    def known(self) -> bool:
        """Whether the content could be read at least once; a missing folder is empty."""
        return self._stamp is not None

    def changed(self) -> Mapping[str, bytes] | None:
        """Return the files' content by name if it may have changed since the last call, else None."""
        now = self._clock()
        if self._checked is not None and now - self._checked < _CHECK_SECONDS:
            return None
        self._checked = now
        try:
            stamp = self._current()
            if stamp == self._stamp:
                return None
            found = {name: _read(self._path / name) for name, *_ in stamp}
        except OSError as error:
            logs.failure("folder not read", folder=str(self._path), reason=error.strerror)
            return None
        self._stamp = stamp
        return found

    def _current(self) -> _Stamp:
        try:
            # NB: the files of a mounted Secret are links through `..data`, which the kubelet replaces at once.
            files = [path for path in self._path.iterdir() if not path.name.startswith("..")]
            states = [(path.name, path.stat()) for path in files if path.is_file()]
        except OSError as error:
            if error.errno not in _ABSENT:
                raise
            return ()
        return tuple(sorted((name, s.st_ino, s.st_mtime_ns, s.st_size) for name, s in states))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        if error.errno not in _ABSENT:
            raise
        return b""
