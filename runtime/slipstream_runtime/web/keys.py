"""API keys from a folder of files, as a Secret is mounted: an entry's name is its tenant, its content its keys.

No key is ever logged, and none is compared as it is.
"""

import hashlib
import re
import secrets
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

from slipstream_runtime.web.folder import Folder

_SEPARATORS: Final = re.compile(rb"[\n,]")


class Keys:
    """The keys of this moment. Without a folder or without keys in it, nobody is known."""

    def __init__(self, folder: Path, *, clock: Callable[[], float]) -> None:
        self._folder = Folder(folder, clock=clock)
        # NB: what is compared and looked up is a hash under a secret of this process, which a client that measures
        # times can't steer, so they tell nothing about a key.
        self._salt = secrets.token_bytes()
        self._tenants: dict[bytes, str] = {}

    def tenant(self, headers: Iterable[tuple[bytes, bytes]]) -> str | None:
        """Return the tenant of the key in `Authorization: Bearer`; None if the key is unknown."""
        self._refresh()
        key = bearer([value for name, value in headers if name == b"authorization"])
        return None if key is None else self._tenants.get(self._digest(key))

    def _digest(self, key: bytes) -> bytes:
        return hashlib.blake2b(key, key=self._salt, digest_size=32).digest()

    def _refresh(self) -> None:
        entries = self._folder.changed()
        if entries is not None:
            self._tenants = {
                self._digest(key): name
                for name, content in entries.items()
                for key in split(content)
            }


def bearer(given: list[bytes]) -> bytes | None:
    """The key in the values of `Authorization`; None if there is not exactly one, or it is of another scheme."""
    if len(given) != 1:
        return None
    scheme, _, key = given[0].partition(b" ")
    return key.strip() if scheme.lower() == b"bearer" else None


def split(content: bytes) -> Iterator[bytes]:
    """The keys of one entry, one a line or between commas."""
    return (key.strip() for key in _SEPARATORS.split(content) if key.strip())
