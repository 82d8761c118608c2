"""API keys from a folder of files, as a Secret is mounted: an entry's name is its tenant, its content its keys.

No key is ever logged, and none is compared as it is.
"""

import hashlib
import re
import secrets
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

_AGAIN_SECONDS: Final = 1.0
"""Files are looked at this often at most, and only when somebody asks."""
_SEPARATORS: Final = re.compile(rb"[\n,]")

_Stamp = tuple[tuple[str, int, int, int], ...]


class Keys:
    """The keys of this moment. Without a folder or without keys in it, nobody is known."""

    def __init__(self, folder: Path, *, clock: Callable[[], float]) -> None:
        self._folder = folder
        self._clock = clock
        # NB: what is compared and looked up is a hash under a secret of this process, which a client that measures
        # times can't steer, so they tell nothing about a key.
        self._salt = secrets.token_bytes()
        self._tenants: dict[bytes, str] = {}
        self._looked: float | None = None
        self._stamp: _Stamp | None = None

    def tenant(self, headers: Iterable[tuple[bytes, bytes]]) -> str | None:
        """Whose key the request carries as `Authorization: Bearer`; None if it is nobody's."""
        self._refresh()
        given = [value for name, value in headers if name == b"authorization"]
        if len(given) != 1:
            return None
        scheme, _, key = given[0].partition(b" ")
        if scheme.lower() != b"bearer":
            return None
        return self._tenants.get(self._digest(key.strip()))

    def _digest(self, key: bytes) -> bytes:
        return hashlib.blake2b(key, key=self._salt, digest_size=32).digest()

    def _refresh(self) -> None:
        now = self._clock()
        if self._looked is not None and now - self._looked < _AGAIN_SECONDS:
            return
        self._looked = now
        stamp = self._look()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        self._tenants = {
            self._digest(key.strip()): name
            for name, *_ in stamp
            for key in _SEPARATORS.split(_read(self._folder / name))
            if key.strip()
        }

    def _look(self) -> _Stamp:
        try:
            # NB: of a mounted Secret, the files are links through `..data`, which is swapped as a whole.
            files = [path for path in self._folder.iterdir() if not path.name.startswith("..")]
            states = [(path.name, path.stat()) for path in files if path.is_file()]
        except OSError:
            return ()
        return tuple(sorted((name, s.st_ino, s.st_mtime_ns, s.st_size) for name, s in states))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
