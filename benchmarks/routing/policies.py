"""The routers that are compared: each as its project publishes it, and Slipstream's."""

import bisect
import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import xxhash

from benchmarks.routing import fleet
from slipstream_runtime.router.balancing import picking, prefixes

Endpoints = tuple[picking.EndpointView, ...]
NEVER: Final = float("inf")


@dataclass(slots=True)
class RoundRobin:
    scrape: float = NEVER
    _turn: Iterator[int] = field(default_factory=itertools.count)

    def pick(self, query: fleet.Query, endpoints: Endpoints) -> str:
        return endpoints[next(self._turn) % len(endpoints)].name

    def first(self, query: fleet.Query) -> None:
        """Learns nothing."""


@dataclass(slots=True)
class LeastLoaded:
    """Fewest requests in flight, the first of them at random."""

    rng: random.Random
    scrape: float = NEVER

    def pick(self, query: fleet.Query, endpoints: Endpoints) -> str:
        return min(endpoints, key=lambda e: (e.in_flight, self.rng.random())).name

    def first(self, query: fleet.Query) -> None:
        """Learns nothing."""


@dataclass(slots=True)
class Epp:
    """llm-d's endpoint picker, default profile: 3 x prefix + 2 x queue + 2 x kv, metrics of 50 ms ago.

    Its index takes a prompt when it is picked; 31 250 blocks of 64 bytes an engine, 256 a prompt.
    """

    rng: random.Random
    scrape: float = 0.05
    _index: prefixes.Index = field(default_factory=prefixes.Index)

    def pick(self, query: fleet.Query, endpoints: Endpoints) -> str:
        chain = query.chain[:256]
        hits = self._index.hits(chain)
        queues = {e.name: e.waiting or 0.0 for e in endpoints}
        most, least = max(queues.values()), min(queues.values())

        def score(endpoint: picking.EndpointView) -> float:
            queue = (most - queues[endpoint.name]) / (most - least) if most > least else 1.0
            return 3 * hits.get(endpoint.name, 0.0) + 2 * queue + 2 * (1 - (endpoint.kv or 0.0))

        chosen = max(endpoints, key=lambda e: (score(e), self.rng.random())).name
        self._index.insert(chosen, chain)
        return chosen

    def first(self, query: fleet.Query) -> None:
        """Learns nothing."""


@dataclass(slots=True)
class SessionHash:
    """KubeAI's PrefixHash: consistent hashing with bounded loads on the first user message's start."""

    scrape: float = NEVER
    _ring: list[tuple[int, str]] = field(default_factory=list)

    def pick(self, query: fleet.Query, endpoints: Endpoints) -> str:
        if not self._ring:
            self._ring = sorted(
                (xxhash.xxh64_intdigest(f"{e.name}{number}".encode()), e.name)
                for e in endpoints
                for number in range(256)
            )
        messages = query.body["messages"]
        assert isinstance(messages, list)
        start = next(m["content"] for m in messages if m["role"] == "user")[:100]
        loads = {e.name: e.in_flight for e in endpoints}
        bound = 1.25 * (sum(loads.values()) + 1) / len(loads)
        place = bisect.bisect(self._ring, (xxhash.xxh64_intdigest(start.encode()), ""))
        for step in range(len(self._ring)):
            name = self._ring[(place + step) % len(self._ring)][1]
            if loads[name] <= bound:
                return name
        raise AssertionError("some engine is always below the mean")

    def first(self, query: fleet.Query) -> None:
        """Learns nothing."""


@dataclass(slots=True)
class PrefixAware:
    """production-stack's prefixaware: a trie of 128 characters a node, a random holder of the longest match."""

    rng: random.Random
    scrape: float = NEVER
    _trie: dict[int, set[str]] = field(default_factory=dict)

    def pick(self, query: fleet.Query, endpoints: Endpoints) -> str:
        chain = query.chain[1::2]  # every second block of 64 ends a node
        holders = {e.name for e in endpoints}
        for node in chain:
            found = self._trie.get(node)
            if not found:
                break
            holders = found
        chosen = self.rng.choice(sorted(holders))
        for node in chain:
            self._trie.setdefault(node, set()).add(chosen)
        return chosen

    def first(self, query: fleet.Query) -> None:
        """Learns nothing."""


@dataclass(slots=True)
class Slipstream:
    """The router's own parts, wired as the router wires them: metrics of 250 ms, indexed at the first token."""

    capacity: int
    """Of an engine's KV cache, in blocks."""
    scrape: float = 0.25
    _index: prefixes.Index = field(default_factory=prefixes.Index)
    _picked: dict[str, float] = field(default_factory=dict)
    _pending: dict[str, float] = field(default_factory=dict)
    _sent: dict[int, tuple[Sequence[int], float]] = field(default_factory=dict)
    """A request's blocks, and how much of them is not in its engine's cache."""

    def pick(self, query: fleet.Query, endpoints: Endpoints) -> str:
        chain = prefixes.blocks(query.body, model="chat", tenant="one")
        hits, size = self._index.hits(chain), prefixes.length(chain)
        seen = [e._replace(pending=self._pending.get(e.name, 0.0)) for e in endpoints]
        chosen = picking.pick(seen, hits, strategy="Prefix", tie=self._picked, size=size)
        assert chosen is not None
        self._picked[chosen.name] = query.arrival
        missing = size * (1 - hits.get(chosen.name, 0.0))
        self._pending[chosen.name] = chosen.pending + missing
        self._sent[query.key] = chain, missing
        return chosen.name

    def first(self, query: fleet.Query) -> None:
        chain, missing = self._sent.pop(query.key)
        self._pending[query.engine] -= missing
        self._index.resize(query.engine, self.capacity)
        self._index.insert(query.engine, chain)


POLICIES: Final[dict[str, Callable[[random.Random, int], fleet.Policy]]] = {
    "slipstream": lambda _, capacity: Slipstream(capacity),
    "round_robin": lambda *_: RoundRobin(),
    "least_loaded": lambda rng, _: LeastLoaded(rng),
    "epp": lambda rng, _: Epp(rng),
    "session_hash": lambda *_: SessionHash(),
    "prefixaware": lambda rng, _: PrefixAware(rng),
}
"""By name: from a source of randomness and the blocks that an engine's KV cache holds."""
