"""Exact response cache: equal requests get one answer, computed once.

This module only decides; waiting and waking are the caller's.
"""

import enum
import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from slipstream_runtime.router.cache.memory import CacheMemory

Requester = TypeVar("Requester")

_NOT_PART: Final = frozenset({"stream", "stream_options", "user", "metadata"})
"""Fields that do not change the content of an answer."""
OVERHEAD: Final = 512
"""Bytes of an entry besides its body."""
OPT_IN: Final = "x-slipstream-cache"
"""Request header; with the value `use`, a sampled answer is cached, too."""


def key(body: Mapping[str, object], *, path: str, revision: str, tenant: str) -> bytes:
    """Return the cache key of a request; `revision` names the revisions that answer."""
    content = {name: value for name, value in body.items() if name not in _NOT_PART}
    # NB: the order of keys stays: grammars and chat templates go by it. `json` takes integers of any size.
    text = json.dumps([path, revision, tenant, content], separators=(",", ":"))
    return hashlib.sha256(text.encode()).digest()


def cacheable(
    body: Mapping[str, object], *, opt_in: str | None = None, cache_control: str | None = None
) -> bool:
    """Whether the answer may be cached.

    Sampled answers are cached only if the client opts in; a request without temperature is sampled.
    """
    directives = {part.strip().lower() for part in (cache_control or "").split(",")}
    if "no-store" in directives:
        return False
    temperature = body.get("temperature")
    exact = isinstance(temperature, int | float) and temperature == 0
    return exact or (opt_in or "").strip().lower() == "use"


@dataclass(frozen=True, slots=True)
class Answer:
    """Complete answer, as a request without `stream` gets it."""

    status: int
    content_type: str
    body: bytes

    @property
    def size(self) -> int:
        """Bytes that the entry takes."""
        return len(self.body) + OVERHEAD

    @property
    def final(self) -> bool:
        """Whether the engine would give the same answer again."""
        return self.status < 500 and self.status not in (408, 429)


@dataclass(frozen=True, slots=True)
class Hit:
    """Answer from the cache."""

    answer: Answer
    age: float
    """Seconds since it was computed."""


class Role(enum.Enum):
    """Role of a request that the cache does not answer."""

    LEAD = "lead"
    """Send the request to an engine, and share the answer."""
    FOLLOW = "follow"
    """Wait for the leader's answer."""


@dataclass(slots=True)
class _Flight(Generic[Requester]):
    leader: Requester
    followers: list[Requester] = field(default_factory=list)


@dataclass(slots=True)
class ResponseCache(Generic[Requester]):
    """Answers of the last `ttl` seconds; beyond `size` bytes, the least recently used are evicted.

    A requester is any object that the caller can wake; the cache only compares it.
    """

    ttl: float
    size: int
    clock: Callable[[], float]
    """Seconds; monotonic."""
    memory: CacheMemory = field(default_factory=CacheMemory)
    """Memory of the caches of all services."""
    used: int = 0
    """Bytes."""
    _answers: OrderedDict[bytes, tuple[float, Answer]] = field(default_factory=OrderedDict)
    _flights: dict[bytes, _Flight[Requester]] = field(default_factory=dict)
    _closed: bool = False

    def look_up(self, key: bytes, requester: Requester) -> Hit | Role:
        """Return the cached answer, or the role of the request."""
        known = self._get(key)
        if known is not None:
            return known
        flight = self._flights.get(key)
        if flight is None:
            self._flights[key] = _Flight(requester)
            return Role.LEAD
        flight.followers.append(requester)
        return Role.FOLLOW

    def store(self, key: bytes, answer: Answer) -> list[Requester]:
        """Store the leader's complete answer if it is a 2xx, and return the followers that get it.

        Call `leave` instead for an answer that broke off or is not `final`: it is not shared.
        """
        flight = self._flights.pop(key)
        if 200 <= answer.status < 300:
            self._put(key, answer)
        return flight.followers

    def leave(self, key: bytes, requester: Requester) -> Requester | None:
        """Remove a leader or follower without an answer; return the follower that leads now."""
        flight = self._flights.get(key)
        if flight is None:
            return None
        if flight.leader != requester:
            if requester in flight.followers:
                flight.followers.remove(requester)
            return None
        if not flight.followers:
            del self._flights[key]
            return None
        flight.leader = flight.followers.pop(0)
        return flight.leader

    def part(self, key: bytes, leader: Requester) -> list[Requester]:
        """End a flight whose leader gives no answer to others soon; return its followers, which are left alone."""
        flight = self._flights.get(key)
        if flight is None or flight.leader != leader:
            return []
        del self._flights[key]
        return flight.followers

    def evict(self, key: bytes) -> None:
        """Drop an answer, because all caches take too much memory."""
        self._drop(key)

    def close(self) -> None:
        """Drop all answers, and keep no more."""
        self._closed = True
        for key in [*self._answers]:
            self._drop(key)

    def __len__(self) -> int:
        return len(self._answers)

    def _get(self, key: bytes) -> Hit | None:
        found = self._answers.get(key)
        if found is None:
            return None
        stored, answer = found
        age = self.clock() - stored
        if age >= self.ttl:
            self._drop(key)
            return None
        self._answers.move_to_end(key)
        self.memory.touch(self, key)
        return Hit(answer, age)

    def _put(self, key: bytes, answer: Answer) -> None:
        if key in self._answers:
            self._drop(key)
        if self._closed or answer.size > self.size or not self.memory.keep(self, key, answer.size):
            return
        self._answers[key] = (self.clock(), answer)
        self.used += answer.size
        while self.used > self.size:
            self._drop(next(iter(self._answers)))

    def _drop(self, key: bytes) -> None:
        _, answer = self._answers.pop(key)
        self.used -= answer.size
        self.memory.drop(self, key, answer.size)
