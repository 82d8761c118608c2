"""The engines of a service, what is known of each, and the choice among them.

Time comes in as an argument, in seconds of a monotonic clock.
"""

import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Final, Protocol

from yarl import URL

from slipstream_runtime import contract
from slipstream_runtime.router.balancing import weighted
from slipstream_runtime.router.messages.request import Request

FAILURES: Final = 3
"""In a row, after which an engine gets no requests for a while."""
EJECTION_SECONDS: Final = 10.0
"""Then one request tries it."""
DEFAULT_CONCURRENCY: Final = 256
"""Requests in flight in an engine that has not said yet how many it runs at once: vLLM's default on small GPUs."""
STALE_SECONDS: Final = 3.0
"""What an engine said of itself longer ago is ignored."""


@dataclasses.dataclass(frozen=True, order=True)
class Address:
    """Address of an engine; the name is its pod's."""

    name: str
    host: str
    port: int = contract.API_PORT
    management_port: int = contract.MANAGEMENT_PORT

    def url(self, path: str) -> URL:
        """Return the URL of a path of the API."""
        return URL.build(scheme="http", host=self.host, port=self.port, path=path)

    def metrics_url(self) -> URL:
        """Return the URL of the metrics."""
        return URL.build(
            scheme="http", host=self.host, port=self.management_port, path=contract.METRICS_PATH
        )


@dataclasses.dataclass(frozen=True)
class Load:
    """Load that an engine reported; None: not reported."""

    waiting: float | None
    kv: float | None
    at: float
    sequences: int | None = None
    """Sequences that it runs at once."""


class Endpoint:
    """One engine that may get requests, from when it is Ready until it is not."""

    def __init__(self, address: Address, *, revision: str, concurrency: int | None) -> None:
        self.address = address
        self.revision = revision
        self.concurrency = concurrency
        """Requests that it may have in flight by configuration; None: as many as it runs at once."""
        self.in_flight = 0
        self.load: Load | None = None
        self._sequences: int | None = None
        self.gone = False
        self.pending = 0.0
        """Blocks of prompt that it was sent and has not computed yet."""
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
        """Requests that it may have in flight."""
        return self.concurrency or self._sequences or DEFAULT_CONCURRENCY

    def report(self, load: Load) -> bool:
        """Take what it says of itself; True if it may get more requests than before.

        The number of sequences that it runs at once holds for its lifetime.
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
        """Whether it failed so often that nobody should ask it now."""
        return self._failures >= FAILURES and now < self._ejected_until

    def free(self, now: float) -> bool:
        """Whether it may get one more request."""
        if self.in_flight >= self.capacity:
            return False
        if self._failures < FAILURES:
            return True
        return now >= self._ejected_until and not self._probing

    def doubted(self, now: float) -> bool:
        """Whether it fails, and somebody else has to find out first if it still does."""
        return self._failures >= FAILURES and not self.free(now)

    def fresh_load(self, now: float) -> Load | None:
        """Return the reported load, unless it is too old."""
        load = self.load
        return load if load is not None and now - load.at <= STALE_SECONDS else None

    def enter(self) -> None:
        """It gets a request."""
        self.in_flight += 1
        self._probing = self._failures >= FAILURES

    def leave(self) -> None:
        """A request is over, however it ended."""
        self.in_flight -= 1
        self._probing = False

    def expect(self, request: Request, blocks: float) -> None:
        """It has to compute so many blocks for the request."""
        request.pending = blocks
        self.pending += blocks

    def computed(self, request: Request) -> None:
        """The request's prompt is computed, or the request over."""
        self.pending -= request.pending
        request.pending = 0.0

    def succeeded(self) -> bool:
        """It answers; True if nobody thought so."""
        doubted = self._failures >= FAILURES
        self._failures = 0
        return doubted

    def failed(self, now: float) -> bool:
        """It did not answer; True if it is ejected by that."""
        self._failures += 1
        if self._failures < FAILURES or now < self._ejected_until:
            return False
        self._ejected_until = now + EJECTION_SECONDS
        return True


class Picker(Protocol):
    """Chooses among engines, all of them free, and learns where requests went."""

    def pick(self, candidates: Sequence[Endpoint], request: Request, *, now: float) -> Endpoint:
        """One of the candidates, of which there is at least one."""
        ...

    def served(self, endpoint: Endpoint, request: Request) -> None:
        """The engine began to answer the request."""
        ...

    def forget(self, endpoint: Endpoint) -> None:
        """The engine is gone, and with it what it had cached."""
        ...


class Pool:
    """The engines of one service, by revision."""

    def __init__(
        self, *, picker: Picker, chance: Callable[[], float], clock: Callable[[], float]
    ) -> None:
        self.picker = picker
        """Learns from what is served."""
        self._chance = chance
        self._clock = clock
        self._endpoints: dict[Address, Endpoint] = {}
        self._weights: Mapping[str, int] = {}

    def __iter__(self) -> Iterator[Endpoint]:
        return iter(self._endpoints.values())

    def __len__(self) -> int:
        return len(self._endpoints)

    @property
    def serving(self) -> bool:
        """Whether any engine is there that gets requests, free or not."""
        return any(self._weights.get(e.revision, 0) > 0 for e in self._endpoints.values())

    def has_candidate(self, *, tried: Collection[Endpoint]) -> bool:
        """Whether an engine that was not tried will take a request, now or when it is less busy."""
        now = self._clock()
        return any(
            self._weights[endpoint.revision] and not endpoint.doubted(now) and endpoint not in tried
            for endpoint in self._endpoints.values()
        )

    def update(
        self,
        found: Mapping[str, Collection[Address]],
        *,
        weights: Mapping[str, int],
        concurrency: int | None,
    ) -> tuple[list[Endpoint], list[Endpoint]]:
        """Take the engines of each revision as they are now; those that came, and those that went."""
        self._weights = weights
        now = {address: revision for revision in weights for address in found.get(revision, ())}
        gone = [self._endpoints.pop(known) for known in [*self._endpoints] if known not in now]
        for endpoint in gone:
            endpoint.gone = True
            self.picker.forget(endpoint)
        came = [
            Endpoint(address, revision=revision, concurrency=concurrency)
            for address, revision in now.items()
            if address not in self._endpoints
        ]
        self._endpoints.update({endpoint.address: endpoint for endpoint in came})
        for endpoint in self._endpoints.values():
            endpoint.concurrency = concurrency
            endpoint.revision = now[endpoint.address]
        return came, gone

    def take(self, request: Request, *, tried: Collection[Endpoint]) -> Endpoint | None:
        """The engine for this request, which counts there from now on; None if none is free."""
        now = self._clock()
        weights = self._weights
        free = [
            endpoint
            for endpoint in self._endpoints.values()
            if weights[endpoint.revision] and endpoint.free(now) and endpoint not in tried
        ]
        if not free:
            return None
        chosen = self.picker.pick(self._of_one_revision(free), request, now=now)
        chosen.enter()
        return chosen

    def _of_one_revision(self, free: Sequence[Endpoint]) -> Sequence[Endpoint]:
        if len(self._weights) == 1:
            return free
        weights = {endpoint.revision: self._weights[endpoint.revision] for endpoint in free}
        revision = weighted.draw(weights, self._chance())
        return [endpoint for endpoint in free if endpoint.revision == revision]
