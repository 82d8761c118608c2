"""The exact response cache: the same request gets the same answer, computed once.

Pure bookkeeping: bytes and times come in, decisions go out; who waits and how is the caller's.
"""

import enum
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

import orjson

Requester = TypeVar("Requester")

_NOT_PART: Final = frozenset({"stream", "stream_options", "user", "metadata"})
"""Fields that change who asks and how the answer travels, not what it says."""
OVERHEAD: Final = 512
"""Bytes that an entry takes beside its body."""
OPT_IN: Final = "x-slipstream-cache"
"""The request header whose value `use` caches an answer that was sampled."""


def key(body: Mapping[str, object], *, path: str, revision: str, tenant: str) -> bytes:
    """Return the key of a request: requests with equal keys share one answer; `revision` is the model's."""
    asked = {name: value for name, value in body.items() if name not in _NOT_PART}
    text = orjson.dumps([path, revision, tenant, asked], option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(text).digest()


def cacheable(
    body: Mapping[str, object], *, opt_in: str | None = None, cache_control: str | None = None
) -> bool:
    """Whether an answer may be taken from the cache and put there.

    Sampled answers only where the client asks for it; an absent temperature samples.
    """
    directives = {part.strip().lower() for part in (cache_control or "").split(",")}
    if "no-store" in directives:
        return False
    temperature = body.get("temperature")
    exact = isinstance(temperature, int | float) and temperature == 0
    return exact or (opt_in or "").strip().lower() == "use"


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer, as a request without `stream` gets it."""

    status: int
    content_type: str
    body: bytes

    @property
    def size(self) -> int:
        """Bytes that keeping it takes."""
        return len(self.body) + OVERHEAD

    @property
    def final(self) -> bool:
        """Whether the engine would say the same again."""
        return self.status < 500 and self.status not in (408, 429)


@dataclass(frozen=True, slots=True)
class Hit:
    """An answer from the cache."""

    answer: Answer
    age: float
    """Seconds since it was computed."""


class Role(enum.Enum):
    """Role of a request that the cache does not answer."""

    LEAD = "lead"
    """Ask the engine, and say what came of it."""
    FOLLOW = "follow"
    """Wait for the leader."""


@dataclass(slots=True)
class _Flight(Generic[Requester]):
    leader: Requester
    followers: list[Requester] = field(default_factory=list)


@dataclass(slots=True)
class ResponseCache(Generic[Requester]):
    """Answers of the last `ttl` seconds, the least recently used dropped beyond `size` bytes.

    A waiter is whatever the caller can wake: it is compared by equality and never called.
    """

    ttl: float
    size: int
    clock: Callable[[], float]
    """Seconds; monotonic."""
    used: int = 0
    """Bytes."""
    _answers: OrderedDict[bytes, tuple[float, Answer]] = field(default_factory=OrderedDict)
    _flights: dict[bytes, _Flight[Requester]] = field(default_factory=dict)

    def ask(self, key: bytes, requester: Requester) -> Hit | Role:
        """The answer, or what the request does to get it."""
        known = self._get(key)
        if known is not None:
            return known
        flight = self._flights.get(key)
        if flight is None:
            self._flights[key] = _Flight(requester)
            return Role.LEAD
        flight.followers.append(requester)
        return Role.FOLLOW

    def answered(self, key: bytes, answer: Answer) -> list[Requester]:
        """The leader's complete answer, kept if it is a 2xx; returns the followers that it is for.

        An answer that broke off or is not `final` is for nobody else: the leader has `left`.
        """
        flight = self._flights.pop(key)
        if 200 <= answer.status < 300:
            self._put(key, answer)
        return flight.followers

    def left(self, key: bytes, requester: Requester) -> Requester | None:
        """A leader or follower is gone without an answer; returns the follower that leads now."""
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
        return Hit(answer, age)

    def _put(self, key: bytes, answer: Answer) -> None:
        if key in self._answers:
            self._drop(key)
        if answer.size > self.size:
            return
        self._answers[key] = (self.clock(), answer)
        self.used += answer.size
        while self.used > self.size:
            self._drop(next(iter(self._answers)))

    def _drop(self, key: bytes) -> None:
        _, answer = self._answers.pop(key)
        self.used -= answer.size
