"""A folder of small files as a Secret is mounted: read again when it changes, looked at only when somebody asks."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

_AGAIN_SECONDS: Final = 1.0
"""Files are looked at this often at most."""

_Stamp = tuple[tuple[str, int, int, int], ...]


class Folder:
    """The files of one folder; one that is missing is empty."""

    def __init__(self, path: Path, *, clock: Callable[[], float]) -> None:
        self._path = path
        self._clock = clock
        self._looked: float | None = None
        self._stamp: _Stamp | None = None

    def changed(self) -> Mapping[str, bytes] | None:
        """Content by name, if it may be another than at the last call; None if it is the same."""
        now = self._clock()
        if self._looked is not None and now - self._looked < _AGAIN_SECONDS:
            return None
        self._looked = now
        stamp = self._look()
        if stamp == self._stamp:
            return None
        self._stamp = stamp
        return {name: _read(self._path / name) for name, *_ in stamp}

    def _look(self) -> _Stamp:
        try:
            # NB: of a mounted Secret, the files are links through `..data`, which is swapped as a whole.
            files = [path for path in self._path.iterdir() if not path.name.startswith("..")]
            states = [(path.name, path.stat()) for path in files if path.is_file()]
        except OSError:
            return ()
        return tuple(sorted((name, s.st_ino, s.st_mtime_ns, s.st_size) for name, s in states))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
