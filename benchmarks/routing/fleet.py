"""A router and its simulated engines in model time: every request's way from the client to its last token."""

import heapq
import itertools
from collections import deque
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

import xxhash

from benchmarks.routing import cache, workloads
from slipstream_runtime.router.balancing import picking
from slipstream_runtime.simulator import model

CHARACTERS: Final = 4 * cache.BLOCK
"""Of a block."""


@dataclass(slots=True)
class Query:
    """One request: what the router may read of it, and what happened to it."""

    key: int
    arrival: float
    session: str
    body: Mapping[str, object]
    chain: tuple[int, ...]
    """The engine's blocks of its prompt."""
    after: tuple[int, ...]
    """The same of its prompt and answer."""
    prompt: int
    output: int
    engine: str = ""
    cached: int = 0
    first: float = 0.0
    finished: float = 0.0


class Policy(Protocol):
    """A router's choice, and what it hears of the outcome."""

    scrape: float
    """Seconds between two looks at the engines' metrics."""

    def pick(self, query: Query, endpoints: tuple[picking.EndpointView, ...]) -> str:
        """The engine that gets it."""

    def first(self, query: Query) -> None:
        """Its first token came."""


@dataclass(slots=True)
class Replica:
    """One engine with its prefix cache; requests are looked up in it only when they can be started."""

    name: str
    engine: model.Engine
    cache: cache.PrefixCache
    queue: deque[Query] = field(default_factory=deque)
    inside: dict[Hashable, Query] = field(default_factory=dict)
    in_flight: int = 0
    busy: bool = False
    waiting: float = 0.0
    kv: float = 0.0
    """As scraped."""

    def start(self, now: float, until: float) -> tuple[float, model.Step]:
        """Take the next step; returns its end."""
        budget = whole = self.engine.parameters.max_batched_tokens
        while self.queue and budget > 0 and (budget < whole or not self.engine.waiting):
            budget -= self._admit(self.queue.popleft())
        step = self.engine.step(now, until=until)
        self.busy = True
        return now + step.duration, step

    def _admit(self, query: Query) -> int:
        """Hand it to the engine; returns the tokens that are to be computed."""
        query.cached = self.cache.cached(query.chain, query.prompt)
        self.engine.add(
            model.Request(query.key, query.arrival, query.prompt, query.output, query.cached)
        )
        self.inside[query.key] = query
        return query.prompt - query.cached

    def end(self, now: float, step: model.Step) -> tuple[list[Query], list[Query]]:
        """What a step brought: first tokens and ends."""
        self.busy = False
        firsts = [self.inside[request.key] for request in step.first]
        for query in firsts:
            query.first = now
            self.cache.computed(query.key, query.chain)
        ends = [self.inside.pop(request.key) for request in step.finished]
        for query in ends:
            query.finished = now
            self.cache.finished(query.key, query.after)
            self.in_flight -= 1
        self.cache.shrink(self.engine.kv_used)
        return firsts, ends


def play(
    conversations: Iterable[workloads.Conversation],
    policy: Policy,
    *,
    engines: int,
    parameters: model.Parameters,
) -> list[Query]:
    """All requests, in order of arrival, after the last has its answer."""
    fleet = {
        f"engine-{number}": Replica(
            f"engine-{number}", model.Engine(parameters), cache.PrefixCache(parameters.kv_tokens)
        )
        for number in range(engines)
    }
    return list(_Run(fleet, policy).run(conversations))


@dataclass(slots=True)
class _Run:
    fleet: dict[str, Replica]
    policy: Policy
    _order: Iterator[int] = field(default_factory=itertools.count)
    _arrivals: list[tuple[float, int, "_Talk"]] = field(default_factory=list)
    _ends: list[tuple[float, int, Replica, model.Step]] = field(default_factory=list)
    _talks: dict[int, "_Talk"] = field(default_factory=dict)
    _scraped: float = float("-inf")

    def run(self, conversations: Iterable[workloads.Conversation]) -> Iterator[Query]:
        for conversation in conversations:
            self._arrive(conversation.start, _Talk(conversation))
        while self._arrivals or self._ends:
            if self._arrivals and (not self._ends or self._arrivals[0][0] <= self._ends[0][0]):
                now, key, talk = heapq.heappop(self._arrivals)
                yield self._route(now, key, talk)
            else:
                now, _, replica, step = heapq.heappop(self._ends)
                self._end(now, replica, step)

    def _arrive(self, at: float, talk: "_Talk") -> None:
        heapq.heappush(self._arrivals, (at, next(self._order), talk))

    def _route(self, now: float, key: int, talk: "_Talk") -> Query:
        query = talk.ask(key, now)
        self._talks[key] = talk
        if now - self._scraped >= self.policy.scrape:
            self._scraped = now
            for replica in self.fleet.values():
                replica.waiting = replica.engine.waiting + len(replica.queue)
                replica.kv = replica.engine.kv_usage
        query.engine = self.policy.pick(
            query,
            tuple(
                picking.EndpointView(r.name, r.in_flight, r.waiting, r.kv, 10_000, "stable")
                for r in self.fleet.values()
            ),
        )
        replica = self.fleet[query.engine]
        replica.in_flight += 1
        replica.queue.append(query)
        if not replica.busy:
            self._start(now, replica)
        return query

    def _start(self, now: float, replica: Replica) -> None:
        # No arrival that is not known yet comes before the least time to think.
        until = now + workloads.THINK_LEAST
        if self._arrivals:
            until = min(until, self._arrivals[0][0])
        end, step = replica.start(now, until)
        heapq.heappush(self._ends, (end, next(self._order), replica, step))

    def _end(self, now: float, replica: Replica, step: model.Step) -> None:
        firsts, ends = replica.end(now, step)
        for query in firsts:
            self.policy.first(query)
        for query in ends:
            talk = self._talks.pop(query.key)
            if talk.answered():
                self._arrive(now + talk.next.think, talk)
        if replica.queue or not replica.engine.idle:
            self._start(now, replica)


@dataclass(slots=True)
class _Talk:
    """A conversation as far as it has got."""

    conversation: workloads.Conversation
    turn: int = 0
    _messages: list[dict[str, str]] = field(default_factory=list)
    _text: bytes = b""
    _chain: list[int] = field(default_factory=list)

    @property
    def next(self) -> workloads.Turn:
        return self.conversation.turns[self.turn]

    def ask(self, key: int, now: float) -> Query:
        """The next question, with all that was said before it."""
        turn = self.next
        if not self._messages:
            self._say("system", self.conversation.system)
        self._say("user", turn.user)
        chain, prompt = tuple(self._chain), -(-len(self._text) // 4)
        body = {"model": "m", "user": self.conversation.session, "messages": list(self._messages)}
        # The next turn brings back the answer, which the engine has computed.
        self._say("assistant", f"{key:08d}" * (turn.output // 2))
        return Query(
            key=key, arrival=now, session=self.conversation.session, body=body, chain=chain,
            after=tuple(self._chain), prompt=prompt, output=turn.output,
        )  # fmt: skip

    def answered(self) -> bool:
        """Whether there is another turn."""
        self.turn += 1
        return self.turn < len(self.conversation.turns)

    def _say(self, role: str, content: str) -> None:
        self._messages.append({"role": role, "content": content})
        self._text += f"<{role}>{content}".encode()
        last = self._chain[-1] if self._chain else 0
        for start in range(
            len(self._chain) * CHARACTERS, len(self._text) - CHARACTERS + 1, CHARACTERS
        ):
            last = xxhash.xxh3_64_intdigest(self._text[start : start + CHARACTERS], last)
            self._chain.append(last)
