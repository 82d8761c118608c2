"""Engines of a service: load, slots and ejection of each, and the choice among them.

Time is an argument, in seconds of a monotonic clock.
"""

import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Final, Protocol

from yarl import URL

from slipstream_runtime import contract
from slipstream_runtime.router.balancing import weighted
from slipstream_runtime.router.comparing import openings
from slipstream_runtime.router.messages.request import Request

FAILURES: Final = 3
"""Failures in a row after which an engine is ejected."""
EJECTION_SECONDS: Final = 10.0
"""Seconds without requests after an ejection; then one request probes the engine."""
DEFAULT_CONCURRENCY: Final = 256
"""Requests in flight in an engine that has not reported its batch size: vLLM's default on small GPUs."""
STALE_SECONDS: Final = 3.0
"""Seconds after which an engine's reported load is ignored."""


@dataclasses.dataclass(frozen=True, order=True)
class Address:
    """Address of an engine, with the name of its pod."""

    name: str
    host: str
    port: int = contract.API_PORT
    management_port: int = contract.MANAGEMENT_PORT
    scheme: str = "http"

    def url(self, path: str, query: str = "") -> URL:
        """Return the URL of a path of the API."""
        return URL.build(
            scheme=self.scheme, host=self.host, port=self.port, path=path, query_string=query
        )

    def metrics_url(self) -> URL:
        """Return the URL of the metrics."""
        return self.management_url(contract.METRICS_PATH)

    def management_url(self, path: str) -> URL:
        """Return the URL of a path of the management port."""
        return URL.build(scheme="http", host=self.host, port=self.management_port, path=path)


@dataclasses.dataclass(frozen=True)
class Load:
    """Load that an engine reported; None: not reported."""

    waiting: float | None
    kv: float | None
    at: float
    sequences: int | None = None
    """Sequences that the engine runs at once: its batch size."""


class Endpoint:
    """One engine that is Ready, and its requests."""

    def __init__(self, address: Address, *, revision: str, concurrency: int | None) -> None:
        self.address = address
        self.revision = revision
        self.concurrency = concurrency
        """Configured requests in flight; None: the batch size that the engine reports."""
        self.in_flight = 0
        """Slots in use: one for each answer of a request."""
        self.load: Load | None = None
        self._sequences: int | None = None
        self.removed = False
        self.death: int | None = None
        """Number of the death of which the engine has not recovered; None while it answers."""
        self.pending = 0.0
        """Blocks of prompt that the engine has received and not computed yet."""
        self._urls: dict[str, URL] = {}
        self._failures = 0
        self._ejected_until = 0.0
        self._probing = False

    @property
    def name(self) -> str:
        """Return the name of the pod."""
        return self.address.name

    @property
    def capacity(self) -> int:
        """Slots: requests that the engine may have in flight."""
        return self.concurrency or self._sequences or DEFAULT_CONCURRENCY

    def report(self, load: Load) -> bool:
        """Store the reported load; return whether the capacity grew.

        A reported batch size is kept for the engine's lifetime.
        """
        before = self.capacity
        self.load = load
        if load.sequences is not None:
            self._sequences = load.sequences
        return self.capacity > before

    def url(self, path: str) -> URL:
        """Return the URL of a path of the API; built once for each path."""
        url = self._urls.get(path)
        if url is None:
            url = self._urls[path] = self.address.url(path)
        return url

    def ejected(self, now: float) -> bool:
        """Whether the engine is ejected after repeated failures."""
        return self._failures >= FAILURES and now < self._ejected_until

    def free(self, now: float, *, slots: int = 1) -> bool:
        """Whether this number of slots is free; a request for more than the capacity takes all slots."""
        if self.in_flight + min(slots, self.capacity) > self.capacity:
            return False
        if self._failures < FAILURES:
            return True
        return now >= self._ejected_until and not self._probing

    def unavailable(self, now: float) -> bool:
        """Whether the engine fails, and can't be probed now."""
        return self._failures >= FAILURES and not self.free(now)

    def fresh_load(self, now: float) -> Load | None:
        """Return the reported load, unless it is too old."""
        load = self.load
        return load if load is not None and now - load.at <= STALE_SECONDS else None

    def enter(self, request: Request, *, slots: int) -> None:
        """Take slots for the request."""
        request.taken = min(slots, self.capacity)
        self.in_flight += request.taken
        self._probing = self._failures >= FAILURES

    def leave(self, request: Request) -> None:
        """Free the request's slots."""
        self.in_flight -= request.taken
        request.taken = 0
        self._probing = False

    def expect(self, request: Request, blocks: float) -> None:
        """Add the blocks of prompt that the engine has to compute for the request."""
        request.pending = blocks
        self.pending += blocks

    def computed(self, request: Request) -> None:
        """Remove the request's blocks: they are computed, or the request ended."""
        self.pending -= request.pending
        request.pending = 0.0

    def succeeded(self) -> bool:
        """Reset the failures; return whether the engine was ejected or near it."""
        self.death = None
        was_failing = self._failures >= FAILURES
        self._failures = 0
        return was_failing

    def failed(self, now: float) -> bool:
        """Count a failure; return whether it ejects the engine."""
        self._failures += 1
        if self._failures < FAILURES or now < self._ejected_until:
            return False
        self._ejected_until = now + EJECTION_SECONDS
        return True


class Picker(Protocol):
    """Choice among engines with free slots; learns which engine has which prompt."""

    def pick(self, candidates: Sequence[Endpoint], request: Request, *, now: float) -> Endpoint:
        """Return one of the candidates, of which there is at least one."""
        ...

    def served(self, endpoint: Endpoint, request: Request) -> None:
        """Note that the engine began to answer the request."""
        ...

    def forget(self, endpoint: Endpoint) -> None:
        """Drop an engine that is gone, and its cached prompts."""
        ...


class Pool:
    """Engines of one service, by revision."""

    def __init__(
        self, *, picker: Picker, chance: Callable[[], float], clock: Callable[[], float]
    ) -> None:
        self.picker = picker
        self._positions = weighted.Positions(chance)
        self._clock = clock
        self._endpoints: dict[Address, Endpoint] = {}
        self._weights: Mapping[str, int] = {}
        self._shares: Mapping[str, int] = {}
        """Weights above 0, of the newest revision first."""

    def __iter__(self) -> Iterator[Endpoint]:
        return iter(self._endpoints.values())

    def __len__(self) -> int:
        return len(self._endpoints)

    @property
    def serving(self) -> bool:
        """Whether any engine gets requests, with or without a free slot."""
        return any(self._weights.get(e.revision, 0) > 0 for e in self._endpoints.values())

    def slots(self) -> tuple[int, int]:
        """Return the slots of the engines that get requests, and those that are taken."""
        slots = taken = 0
        for endpoint in self._endpoints.values():
            if self._weights.get(endpoint.revision, 0):
                slots += endpoint.capacity
                taken += min(endpoint.in_flight, endpoint.capacity)
        return slots, taken

    def has_candidate(self, *, tried: Collection[Endpoint]) -> bool:
        """Whether an engine that was not tried takes requests, now or when a slot is free."""
        now = self._clock()
        return any(
            self._weights[endpoint.revision]
            and not endpoint.unavailable(now)
            and endpoint not in tried
            for endpoint in self._endpoints.values()
        )

    def update(
        self,
        found: Mapping[str, Collection[Address]],
        *,
        weights: dict[str, int],
        concurrency: int | None,
    ) -> tuple[list[Endpoint], list[Endpoint]]:
        """Apply the present addresses of each revision; return the endpoints that were added and removed.

        The newest revision is the last one of the weights.
        """
        self._weights = weights
        self._shares = {name: weight for name, weight in reversed(weights.items()) if weight}
        now = {address: revision for revision in weights for address in found.get(revision, ())}
        removed = [self._endpoints.pop(known) for known in [*self._endpoints] if known not in now]
        for endpoint in removed:
            endpoint.removed = True
            self.picker.forget(endpoint)
        added = [
            Endpoint(address, revision=revision, concurrency=concurrency)
            for address, revision in now.items()
            if address not in self._endpoints
        ]
        self._endpoints.update({endpoint.address: endpoint for endpoint in added})
        for endpoint in self._endpoints.values():
            endpoint.concurrency = concurrency
            endpoint.revision = now[endpoint.address]
        return added, removed

    def take(self, request: Request, *, tried: Collection[Endpoint]) -> Endpoint | None:
        """Take the request's slots and return its engine; None if no engine has enough of them free."""
        now = self._clock()
        weights = self._weights
        slots = request.slots
        if request.replica is not None:
            return self._take_holder(request, slots=slots, now=now, tried=tried)
        free = [
            endpoint
            for endpoint in self._endpoints.values()
            if weights[endpoint.revision]
            and endpoint.free(now, slots=slots)
            and endpoint not in tried
        ]
        if not free:
            return None
        chosen = self.picker.pick(self._of_one_revision(free, request), request, now=now)
        chosen.enter(request, slots=slots)
        return chosen

    def named(self, name: str) -> Endpoint | None:
        """Return the engine of a pod."""
        return next((each for each in self._endpoints.values() if each.name == name), None)

    def _take_holder(
        self, request: Request, *, slots: int, now: float, tried: Collection[Endpoint]
    ) -> Endpoint | None:
        """Take a slot in the engine that stores what the request continues, whatever the weight of its revision."""
        assert request.replica is not None
        holder = self.named(request.replica)
        if holder is None or holder in tried or not holder.free(now, slots=slots):
            return None
        chosen = self.picker.pick([holder], request, now=now)
        chosen.enter(request, slots=slots)
        return chosen

    def _of_one_revision(self, free: Sequence[Endpoint], request: Request) -> Sequence[Endpoint]:
        """Return the free engines of the request's revision, or of another one if it has none.

        All turns of a conversation have one position, and the newest revision gets the lowest ones. So a conversation
        that it has stays with it as its weight grows.
        """
        shares = self._shares
        if len(shares) < 2:
            return free
        if request.position is None:
            found = openings.position(
                request.content, owner=f"{request.prefix_scope}/{request.model}"
            )
            request.position = self._positions.next() if found is None else found
        present = {endpoint.revision for endpoint in free}
        drawn = weighted.draw(shares, request.position)
        if drawn not in present:
            left = {revision: weight for revision, weight in shares.items() if revision in present}
            drawn = weighted.draw(left, request.position)
        return [endpoint for endpoint in free if endpoint.revision == drawn]
