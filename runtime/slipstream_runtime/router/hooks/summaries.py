"""Summaries of conversations' beginnings in memory, bounded in all and fair between tenants."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

MOST_BYTES: Final = 8 * 1024 * 1024
"""Bytes of all summaries of a router, part of `router_memory.BASE_BYTES`: some thousand conversations."""
KEPT_SECONDS: Final = 3600.0
"""Seconds after its last use for which a summary is kept."""
_OVERHEAD: Final = 512
"""Bytes of an entry besides its text."""


@dataclass(slots=True)
class _Entry:
    text: str
    size: int
    used: float


@dataclass(slots=True)
class _Tenant:
    entries: OrderedDict[bytes, _Entry] = field(default_factory=OrderedDict)
    size: int = 0


class Summaries:
    """Summaries by the hash of their turns; the tenant with the most bytes gives way when they are too many."""

    def __init__(self, *, clock: Callable[[], float], most: int = MOST_BYTES) -> None:
        self._clock = clock
        self._most = most
        self._tenants: dict[str, _Tenant] = {}
        self.size = 0
        """Bytes of all summaries."""

    def get(self, tenant: str, key: bytes) -> str | None:
        """Return the summary of these turns; None if it is not known."""
        known = self._tenants.get(tenant)
        entry = None if known is None else known.entries.get(key)
        if known is None or entry is None:
            return None
        now = self._clock()
        if now - entry.used >= KEPT_SECONDS:
            self._drop(tenant, key)
            return None
        entry.used = now
        known.entries.move_to_end(key)
        return entry.text

    def put(self, tenant: str, key: bytes, text: str) -> None:
        """Keep a summary."""
        size = len(text.encode()) + _OVERHEAD
        if size > self._most:
            return
        if key in self._tenants.setdefault(tenant, _Tenant()).entries:
            self._drop(tenant, key)
        known = self._tenants.setdefault(tenant, _Tenant())
        known.entries[key] = _Entry(text, size, self._clock())
        known.size += size
        self.size += size
        while self.size > self._most:
            largest = max(self._tenants, key=lambda name: self._tenants[name].size)
            self._drop(largest, next(iter(self._tenants[largest].entries)))

    def _drop(self, tenant: str, key: bytes) -> None:
        known = self._tenants[tenant]
        size = known.entries.pop(key).size
        known.size -= size
        self.size -= size
        if not known.entries:
            del self._tenants[tenant]
