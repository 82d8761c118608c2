"""API keys, read from the folder at which a Secret is mounted. An entry's name is the tenant, its content the keys.

Keys are never logged, and only their hashes are compared.
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
    """Current API keys; if the folder is missing or empty, no key is valid."""

    def __init__(self, folder: Path, *, clock: Callable[[], float]) -> None:
        self._folder = Folder(folder, clock=clock)
        # NB: keys are looked up by a hash that is keyed with a secret of this process. A client can't choose the hash,
        # so response times tell it nothing about a key.
        self._salt = secrets.token_bytes()
        self._tenants: dict[bytes, str] = {}

    def tenant(self, headers: Iterable[tuple[bytes, bytes]]) -> str | None:
        """Return the tenant of the key in the headers; None if the key is unknown."""
        self._refresh()
        fields = [*headers]
        key = given(
            authorization=[value for name, value in fields if name == b"authorization"],
            x_api_key=[value for name, value in fields if name == b"x-api-key"],
        )
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


def given(*, authorization: list[bytes], x_api_key: list[bytes]) -> bytes | None:
    """Return the key in the values of these headers: `Authorization: Bearer KEY`, else `x-api-key: KEY`.

    None if the header is there twice, or has another scheme.
    """
    if authorization:
        scheme, _, key = authorization[0].partition(b" ")
        return key.strip() if len(authorization) == 1 and scheme.lower() == b"bearer" else None
    return x_api_key[0].strip() if len(x_api_key) == 1 else None


def split(content: bytes) -> Iterator[bytes]:
    """Return the keys of one entry, which are separated by line feeds or commas."""
    return (key.strip() for key in _SEPARATORS.split(content) if key.strip())
