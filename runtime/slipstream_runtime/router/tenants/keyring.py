"""API keys of one service: plain ones as engines take them, or documents that also say what a key may do."""

import dataclasses
import datetime
import hashlib
import json
import re
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Final

import pydantic
import yaml

from slipstream_runtime import errors, logs
from slipstream_runtime.part import Part, Positive
from slipstream_runtime.web import keys
from slipstream_runtime.web.folder import Folder

_DOCUMENT: Final = re.compile(rb"^\s*\{|^\s*[\"']?sha256[\"']?\s*:", re.MULTILINE)


class Key(Part):
    """One key as its document tells it."""

    sha256: Annotated[str, pydantic.Field(pattern="^[0-9a-fA-F]{64}$")]
    """Of the key, in hexadecimal: the Secret holds no key."""
    tenant: Annotated[str, pydantic.Field(min_length=1, max_length=253)] | None = None
    """By default the entry's name."""
    models: tuple[str, ...] | None = None
    """None: all of the service."""
    priority: Annotated[int, pydantic.Field(ge=-1000, le=1000)] = 0
    tokens_per_minute: Positive | None = None
    expires: pydantic.AwareDatetime | None = None


@dataclasses.dataclass(frozen=True)
class Client:
    """Whom a key belongs to, and what it allows."""

    tenant: str
    models: frozenset[str] | None = None
    priority: int = 0
    tokens_per_minute: int | None = None
    expires: float | None = None
    """Seconds since 1970."""

    def may_use(self, model: str) -> bool:
        """Whether the key is for this model."""
        return self.models is None or model in self.models


class Keyring:
    """The keys of this moment; `clock` is monotonic, `now` in seconds since 1970."""

    def __init__(
        self, folder: Path, *, clock: Callable[[], float], now: Callable[[], float]
    ) -> None:
        self._folder = Folder(folder, clock=clock)
        self._now = now
        # NB: what is looked up is a hash under a secret of this process, so times tell nothing about a key.
        self._salt = secrets.token_bytes()
        self._clients: dict[bytes, Client] = {}

    def client(self, key: bytes | None) -> Client | None:
        """Return the tenant of the key; None if the key is unknown or expired."""
        entries = self._folder.changed()
        if entries is not None:
            self._clients = {
                self._digest(digest): client
                for name, content in entries.items()
                for digest, client in _read(name, content)
            }
        if key is None:
            return None
        client = self._clients.get(self._digest(hashlib.sha256(key).digest()))
        if client is None or (client.expires is not None and client.expires <= self._now()):
            return None
        return client

    def _digest(self, sha256: bytes) -> bytes:
        return hashlib.blake2b(sha256, key=self._salt, digest_size=32).digest()


def _read(name: str, content: bytes) -> Iterator[tuple[bytes, Client]]:
    """The keys of one entry, as their SHA-256; an entry that is wrong has none, and the log says why."""
    if not _DOCUMENT.search(content):
        for key in keys.split(content):
            yield hashlib.sha256(key).digest(), Client(tenant=name)
        return
    try:
        document = Key.model_validate(_parsed(content))
    except (ValueError, yaml.YAMLError) as error:
        # NB: pydantic's words without the input, YAML's not at all: either could repeat a key.
        known = isinstance(error, pydantic.ValidationError)
        reason = errors.describe(error) if known else "no YAML of a key"
        logs.failure("API key refused", entry=name, reason=reason)
        return
    yield (
        bytes.fromhex(document.sha256),
        Client(
            tenant=document.tenant or name,
            models=None if document.models is None else frozenset(document.models),
            priority=document.priority,
            tokens_per_minute=document.tokens_per_minute,
            expires=document.expires.timestamp() if document.expires else None,
        ),
    )


def _parsed(content: bytes) -> object:
    found = yaml.safe_load(content)
    # NB: YAML makes dates of what looks like one, with or without a zone; pydantic insists on the zone.
    return json.loads(json.dumps(found, default=_text))


def _text(value: object) -> str:
    if isinstance(value, datetime.date):
        return value.isoformat()
    raise ValueError(f"{type(value).__name__} has no place here")
