"""API keys of one service: plain keys, or documents with a key's permissions."""

import dataclasses
import datetime
import hashlib
import json
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Annotated, Final, Protocol

import pydantic
import yaml

from slipstream_runtime import errors, logs
from slipstream_runtime.part import Part, Positive
from slipstream_runtime.web import keys
from slipstream_runtime.web.folder import Folder

_DOCUMENT: Final = re.compile(rb"^\s*\{|^\s*[\"']?sha256[\"']?\s*:", re.MULTILINE)
_MOST_BYTES: Final = 16 * 1024
"""Bytes of one key's document."""
_AT_ONCE_BYTES: Final = 4 * 1024
"""Bytes of documents that are parsed at once, in some milliseconds; a thread parses more of them."""
_PLAIN_AT_ONCE_BYTES: Final = 64 * 1024
"""The same of plain keys."""
_DEEPEST: Final = 4
"""Levels of a document, of which a valid one has two. A parser of YAML takes seconds for 15,000 levels."""
_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's, which is ten times as fast; every request waits while keys are read."""


class Key(Part):
    """Document of one key."""

    sha256: Annotated[str, pydantic.Field(pattern="^[0-9a-fA-F]{64}$")]
    """Hash of the key in hexadecimal, so that the Secret does not hold the key."""
    tenant: Annotated[str, pydantic.Field(min_length=1, max_length=253)] | None = None
    """Default: the name of the entry."""
    models: tuple[str, ...] | None = None
    """None: all models of the service."""
    priority: Annotated[int, pydantic.Field(ge=-1000, le=1000)] = 0
    tokens_per_minute: Positive | None = None
    expires: pydantic.AwareDatetime | None = None


@dataclasses.dataclass(frozen=True)
class Client:
    """Client with a valid key, and its permissions."""

    tenant: str = ""
    models: frozenset[str] | None = None
    priority: int = 0
    tokens_per_minute: int | None = None
    expires: float | None = None
    """Seconds since 1970."""

    def may_use(self, model: str) -> bool:
        """Whether the key may use this model."""
        return self.models is None or model in self.models


ANONYMOUS: Final = Client()
"""Client of a service without keys."""


_Keys = tuple[dict[bytes, Client], Sequence[str]]
"""Clients by the salted hash of their key, and the names of entries that are no keys."""


class Source(Protocol):
    """Entries that hold the keys of a service."""

    @property
    def known(self) -> bool:
        """Whether the entries could be read."""
        ...

    def changed(self) -> Mapping[str, bytes] | None:
        """Return the entries if they may differ from those of the last call; otherwise None."""
        ...


class Keyring:
    """Keys of a service; `now` is in seconds since 1970."""

    def __init__(self, source: Source, *, now: Callable[[], float]) -> None:
        self._source = source
        self._now = now
        # NB: keys are looked up by a hash with a secret salt, so that response times reveal nothing about a key.
        self._salt = secrets.token_bytes()
        self._clients: dict[bytes, Client] | None = None
        """None before the first time that the entries were read."""
        self._refused: Sequence[str] = ()
        self._reading: Future[_Keys] | None = None

    @property
    def known(self) -> bool:
        """Whether the keys could be read. Until then no request can be judged."""
        self._refresh()
        return self._clients is not None and self._source.known

    @property
    def read(self) -> bool:
        """Whether the entries are those of the newest change, and no thread reads them."""
        self._refresh()
        return self._reading is None

    @property
    def refused(self) -> Sequence[str]:
        """Names of the entries that are no keys."""
        self._refresh()
        return self._refused

    def client(self, key: bytes | None) -> Client | None:
        """Return the client of the key; None if the key is unknown or expired."""
        self._refresh()
        if key is None or self._clients is None:
            return None
        client = self._clients.get(self._digest(hashlib.sha256(key).digest()))
        if client is None or (client.expires is not None and client.expires <= self._now()):
            return None
        return client

    def _refresh(self) -> None:
        """Read the entries if they changed; the keys before stay valid until a thread has read many documents."""
        if self._reading is not None:
            if not self._reading.done():
                return
            self._clients, self._refused = self._reading.result()
            self._reading = None
        entries = self._source.changed()
        if entries is None:
            return
        if _is_quick(entries):
            self._clients, self._refused = self._read(entries)
        else:
            self._reading = Future()
            reading = threading.Thread(target=_fill, args=(self._reading, self._read, entries))
            reading.daemon = True
            reading.start()

    def _read(self, entries: Mapping[str, bytes]) -> "_Keys":
        clients, refused = dict[bytes, Client](), list[str]()
        for name, content in entries.items():
            try:
                clients.update(
                    (self._digest(digest), client) for digest, client in _read(name, content)
                )
            except _RefusedEntryError:
                refused.append(name)
        return clients, refused

    def _digest(self, sha256: bytes) -> bytes:
        return hashlib.blake2b(sha256, key=self._salt, digest_size=32).digest()


def mounted(folder: Path) -> Keyring:
    """Return the keys of a mounted Secret, which is read again when it changes."""
    return Keyring(Folder(folder, clock=time.monotonic), now=time.time)


def _read(name: str, content: bytes) -> Iterator[tuple[bytes, Client]]:
    """Yield the keys of one entry as SHA-256; log an invalid entry, which has none, and raise _RefusedEntryError."""
    if not _DOCUMENT.search(content):
        for key in keys.split(content):
            yield hashlib.sha256(key).digest(), Client(tenant=name)
        return
    try:
        document = Key.model_validate(_parsed(content))
        client = Client(
            tenant=document.tenant or name,
            models=None if document.models is None else frozenset(document.models),
            priority=document.priority,
            tokens_per_minute=document.tokens_per_minute,
            expires=document.expires.timestamp() if document.expires else None,
        )
    except (ArithmeticError, RecursionError, TypeError, ValueError, yaml.YAMLError) as error:
        # NB: the messages of pydantic's input and of YAML could contain a key, so neither is logged.
        known = isinstance(error, pydantic.ValidationError)
        reason = errors.describe(error) if known else "not a valid YAML document of a key"
        logs.failure("API key refused", entry=name, reason=reason)
        raise _RefusedEntryError from None
    yield bytes.fromhex(document.sha256), client


class _RefusedEntryError(Exception):
    """Raised for an entry that is no key."""


def _fill(
    reading: "Future[_Keys]",
    read: Callable[[Mapping[str, bytes]], "_Keys"],
    entries: Mapping[str, bytes],
) -> None:
    reading.set_result(read(entries))


def _is_quick(entries: Mapping[str, bytes]) -> bool:
    """Whether the entries are read within some milliseconds."""
    documents = sum(
        len(content)
        for content in entries.values()
        if len(content) <= _MOST_BYTES and _DOCUMENT.search(content)
    )
    return documents <= _AT_ONCE_BYTES and sum(map(len, entries.values())) <= _PLAIN_AT_ONCE_BYTES


def _parsed(content: bytes) -> object:
    if len(content) > _MOST_BYTES:
        raise ValueError("too large")
    depth = 0
    for event in yaml.parse(content, Loader=_LOADER):
        # NB: aliases share in memory what JSON writes out each time: 300 bytes can become gigabytes.
        if isinstance(event, yaml.AliasEvent):
            raise ValueError("has an alias")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            raise ValueError("too deep")
    found = yaml.load(content, Loader=_LOADER)  # noqa: S506 (it is a safe one)
    # NB: YAML parses dates with or without a time zone; as text, pydantic requires the zone.
    return json.loads(json.dumps(found, default=_text))


def _text(value: object) -> str:
    if isinstance(value, datetime.date):
        return value.isoformat()
    raise ValueError(f"{type(value).__name__} is not supported")
