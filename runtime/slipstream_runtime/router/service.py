"""One service at run time: its engines, who waits for them, its keys and budgets."""

import asyncio
import math
from collections.abc import Callable, Collection, Mapping
from typing import Final, Protocol

from slipstream_runtime.router import config
from slipstream_runtime.router.balancing.endpoints import EJECTION_SECONDS, Address, Endpoint, Pool
from slipstream_runtime.router.balancing.prefix_picker import Cheapest
from slipstream_runtime.router.balancing.queue import Line, Turn
from slipstream_runtime.router.balancing.retries import Retries
from slipstream_runtime.router.cache.responses import Cache
from slipstream_runtime.router.cache.sharing import Waiter
from slipstream_runtime.router.messages import refusals as reasons
from slipstream_runtime.router.messages.request import Asked
from slipstream_runtime.router.metrics import ServiceMetrics
from slipstream_runtime.router.tenants.budgets import Bucket
from slipstream_runtime.router.tenants.keyring import Client, Keyring
from slipstream_runtime.web.refusal import Refusal

HURRIED_SECONDS: Final = 5.0
"""For a place in an engine, of a request that another service answers otherwise."""
_TIMER_SECONDS: Final = 0.01
"""By which timers may be early."""


class Activate(Protocol):
    """Callback for a request that finds no engine."""

    def __call__(self, service: "Service") -> None:
        """Request an engine, and repeat the request while `service.starving`."""
        ...


class Service:
    """State of one service in the router; belongs to one event loop."""

    def __init__(
        self,
        settings: config.Service,
        *,
        pool: Pool,
        keyring: Keyring,
        metrics: ServiceMetrics,
        activate: Activate,
        clock: Callable[[], float],
    ) -> None:
        self.settings = settings
        self.pool = pool
        self.metrics = metrics
        self.retries = Retries()
        self.cache: Cache[Waiter] | None = None
        self.in_flight = 0
        self._keyring = keyring
        self._activate = activate
        self._clock = clock
        self._line = Line()
        self._budgets: dict[str, Bucket] = {}
        self.configure(settings)
        metrics.watch(
            held=lambda: len(self._line),
            in_flight=lambda: self.in_flight,
            endpoints=lambda: len(self.pool),
        )

    @property
    def name(self) -> str:
        """Return the name of the InferenceService."""
        return self.settings.name

    @property
    def held(self) -> int:
        """Requests that wait for a place."""
        return len(self._line)

    @property
    def starving(self) -> bool:
        """Whether requests wait and no engine is there."""
        return bool(self._line) and not self.pool.serving

    def configure(self, settings: config.Service) -> None:
        """Go by these settings from now on."""
        known = self.settings
        if (settings.strategy, settings.kv_tokens) != (known.strategy, known.kv_tokens):
            self.pool.picker = Cheapest(strategy=settings.strategy, kv_tokens=settings.kv_tokens)
        if settings.responses != known.responses or self.cache is None:
            self.cache = _cache(settings.responses, clock=self._clock)
        self.settings = settings
        self._line.most = settings.limits.queue
        self._line.most_bytes = settings.limits.queue_size

    def update(
        self, found: Mapping[str, Collection[Address]]
    ) -> tuple[list[Endpoint], list[Endpoint]]:
        """Take the engines as they are now; those that came, and those that went."""
        changes = self.pool.update(
            found,
            weights={revision.name: revision.weight for revision in self.settings.revisions},
            concurrency=self.settings.limits.concurrency,
        )
        self.pump()
        if self.starving:
            self._activate(self)
        return changes

    @property
    def revision(self) -> str:
        """Names all revisions that answer now."""
        return ",".join(sorted(r.name for r in self.settings.revisions if r.weight))

    def serves(self, model: str) -> bool:
        """Whether clients call it, or one of its adapters, by this name."""
        return model == self.settings.model or model in self.settings.adapters

    def client(self, key: bytes | None) -> Client | None:
        """Return the tenant of the key; a service without keys admits every client, under no name."""
        return self._keyring.client(key) if self.settings.keys else _ANYBODY

    def reserve(self, asked: Asked, client: Client) -> "Reservation":
        """Set the tenant's tokens aside for this request; Refusal if there are too few."""
        rate = client.tokens_per_minute
        if rate is None:
            return Reservation(None, 0, clock=self._clock)
        now = self._clock()
        bucket = self._budgets.get(client.tenant)
        if bucket is None or bucket.per_minute != rate:
            bucket = self._budgets[client.tenant] = Bucket(rate, now=now)
        tokens = asked.tokens(limit=self.settings.limits.max_output_tokens)
        wait = bucket.reserve(tokens, now=now)
        if wait:
            raise reasons.over_budget(tokens, wait=None if math.isinf(wait) else wait)
        asked.ask_usage()
        return Reservation(bucket, tokens, clock=self._clock)

    async def place(
        self, asked: Asked, *, tried: set[Endpoint], pause: float, hurried: bool = False
    ) -> Endpoint:
        """An engine for the request, which must be given back by `leave`; Refusal if none is free in time.

        Engines that were tried are left out, or for `pause` seconds if no other comes free. A
        hurried request waits for engines that are busy, not long, and not for any that are not up.
        """
        if hurried and not self.pool.able(tried=tried):
            if not self.pool.serving:
                self._activate(self)
            raise reasons.nobody()
        if not self._line:
            endpoint = self.pool.take(asked, tried=tried)
            if endpoint is not None:
                return endpoint
        turn = Turn(asked, tried=tried)
        self._line.join(turn)
        pardon = None
        if tried:
            pardon = asyncio.get_running_loop().call_later(pause, self._pardon, turn)
        try:
            return await self._wait(turn, hurried=hurried)
        finally:
            self._line.leave(turn)
            if pardon is not None:
                pardon.cancel()

    def leave(self, endpoint: Endpoint, asked: Asked) -> None:
        """A request is over in this engine: its place is for the next."""
        endpoint.computed(asked)
        endpoint.leave()
        if self._line:
            self.pump()

    def failed(self, endpoint: Endpoint) -> None:
        """The engine did not answer."""
        if endpoint.failed(self._clock()):
            self.metrics.ejections.inc()
            asyncio.get_running_loop().call_later(EJECTION_SECONDS + _TIMER_SECONDS, self.pump)

    def answered(self, endpoint: Endpoint, asked: Asked) -> None:
        """The engine began to answer."""
        endpoint.computed(asked)
        self.pool.picker.served(endpoint, asked)
        if endpoint.succeeded():
            self.pump()

    def pump(self) -> None:
        """Give free places to those who wait, in order."""
        at = 0
        while at < len(self._line):
            turn = self._line[at]
            if turn.place.done():  # its client left, and its task has not had its turn yet
                self._line.leave(turn)
                continue
            endpoint = self.pool.take(turn.asked, tried=turn.tried)
            if endpoint is not None:
                self._line.leave(turn)
                turn.place.set_result(endpoint)
            elif turn.tried:
                at += 1
            else:
                return

    def dismiss(self, why: Refusal) -> None:
        """Send away all who wait."""
        while self._line:
            self._line.send_away(self._line[0], why)

    async def _wait(self, turn: Turn, *, hurried: bool) -> Endpoint:
        self.pump()
        if self.starving:
            self._activate(self)
        hold = self.settings.limits.hold
        if hurried:
            hold = min(hold, HURRIED_SECONDS)
        given = False
        try:
            async with asyncio.timeout(hold):
                endpoint = await turn.place
            given = True
            return endpoint
        except TimeoutError:
            raise reasons.held_too_long(hold) from None
        finally:
            if not given and turn.place.done() and not turn.place.cancelled():
                self._return(turn)

    def _return(self, turn: Turn) -> None:
        """The place came while its client left."""
        if turn.place.exception() is None:
            self.leave(turn.place.result(), turn.asked)

    def _pardon(self, turn: Turn) -> None:
        turn.tried.clear()
        self.pump()


def _cache(
    settings: config.Responses | None, *, clock: Callable[[], float]
) -> Cache[Waiter] | None:
    if settings is None:
        return None
    return Cache(ttl=settings.ttl, size=settings.size, clock=clock)


class Reservation:
    """Tokens set aside for one request, until it is settled."""

    def __init__(self, bucket: Bucket | None, tokens: int, *, clock: Callable[[], float]) -> None:
        self._bucket = bucket
        self._tokens = tokens
        self._clock = clock

    def settle(self, used: int) -> None:
        """The request used so many tokens; only the first time counts."""
        bucket, self._bucket = self._bucket, None
        if bucket is not None:
            bucket.settle(self._tokens, used=used, now=self._clock())


_ANYBODY = Client(tenant="")
