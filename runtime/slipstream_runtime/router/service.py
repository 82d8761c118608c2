"""State of one service: its engines, queue, keys, budgets and response cache."""

import asyncio
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final, Protocol

from slipstream_runtime.recording.totals import Totals
from slipstream_runtime.router import config
from slipstream_runtime.router.balancing.deaths import SECONDS as DEATHS_SECONDS
from slipstream_runtime.router.balancing.deaths import Deaths
from slipstream_runtime.router.balancing.endpoints import EJECTION_SECONDS, Address, Endpoint, Pool
from slipstream_runtime.router.balancing.pace import Pace
from slipstream_runtime.router.balancing.prefix_picker import PrefixPicker
from slipstream_runtime.router.balancing.queue import RequestQueue, Waiter
from slipstream_runtime.router.balancing.retries import Retries
from slipstream_runtime.router.balancing.turns import Turns
from slipstream_runtime.router.cache.memory import CacheMemory
from slipstream_runtime.router.cache.responses import ResponseCache
from slipstream_runtime.router.cache.sharing import AnswerFuture
from slipstream_runtime.router.comparing.arms import Arms
from slipstream_runtime.router.messages import refusals, stored
from slipstream_runtime.router.messages.request import Request
from slipstream_runtime.router.metrics import ServiceMetrics
from slipstream_runtime.router.recording.flight import CAUSES
from slipstream_runtime.router.tenants.budgets import (
    FREE,
    Budgets,
    Lenders,
    OverBudgetError,
    Reservation,
)
from slipstream_runtime.web.keyring import ANONYMOUS, Client, Keyring
from slipstream_runtime.web.refusal import Refusal
from slipstream_runtime.web.tenants import Tenancy

FALLBACK_WAIT_SECONDS: Final = 5.0
"""Longest wait for a slot, in seconds, of a request that another service can answer."""
_TIMER_SECONDS: Final = 0.01
"""Seconds by which a timer may be early."""


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
        make_keyring: Callable[[config.Service], Keyring],
        metrics: ServiceMetrics,
        activate: Activate,
        clock: Callable[[], float],
        caches: CacheMemory,
        lenders: Lenders,
        began: float,
        now: Callable[[], float],
    ) -> None:
        self.settings = settings
        self.pool = pool
        self.metrics = metrics
        self.retries = Retries()
        self.pace = Pace()
        self.cache: ResponseCache[AnswerFuture] | None = None
        self.in_flight = 0
        self.times = Totals(len(CAUSES))
        self.arms = Arms(settings.name, now=now)
        self._make_keyring = make_keyring
        self._keyring = make_keyring(settings)
        self._activate = activate
        self._clock = clock
        self._cache_memory = caches
        self._queue = RequestQueue()
        self._turns = Turns()
        self._deaths = Deaths()
        self._last_death = 0
        self.budgets = Budgets(lenders, clock=clock, began=began)
        self.configure(settings)
        metrics.watch(
            queued=lambda: len(self._queue),
            in_flight=lambda: self.in_flight,
            endpoints=lambda: len(self.pool),
            refused_keys=lambda: len(self.refused_keys),
            times=self.times,
            arms=self.arms,
        )

    @property
    def name(self) -> str:
        """Return the name of the InferenceService."""
        return self.settings.name

    @property
    def queued(self) -> int:
        """Requests in the queue."""
        return len(self._queue)

    @property
    def starving(self) -> bool:
        """Whether requests wait and there is no engine."""
        return bool(self._queue) and not self.pool.serving

    def configure(self, settings: config.Service) -> None:
        """Apply new settings."""
        known = self.settings
        if (settings.strategy, settings.kv_tokens) != (known.strategy, known.kv_tokens):
            self.pool.picker = PrefixPicker(
                strategy=settings.strategy, kv_tokens=settings.kv_tokens
            )
        if settings.key_secret != known.key_secret:
            self._keyring = self._make_keyring(settings)
        if settings.responses != known.responses or self.cache is None:
            self._forget_answers()
            self.cache = _cache(settings.responses, clock=self._clock, memory=self._cache_memory)
        self._tenancy = Tenancy(self.name, scope=settings.prefix_scope, keys=settings.keys)
        self.settings = settings
        self.arms.configure(settings.revisions)
        self._queue.max_requests = settings.limits.queue
        self._queue.max_bytes = settings.limits.queue_size
        if settings.stopped and not known.stopped:
            self.reject_waiting(refusals.stopped())

    def update(
        self, found: Mapping[str, Collection[Address]]
    ) -> tuple[list[Endpoint], list[Endpoint]]:
        """Apply the present endpoints; return those that were added and those that were removed."""
        foreign = frozenset(self.settings.foreign)
        changes = self.pool.update(
            {
                revision.name: [
                    address
                    for address in found.get(revision.name, ())
                    if address.name not in foreign
                ]
                for revision in self.settings.revisions
            },
            weights={revision.name: revision.weight for revision in self.settings.revisions},
            concurrency=self.settings.limits.concurrency,
        )
        self._queue.reject_lost(self.pool.named)
        self.dispatch()
        if self.starving:
            self._activate(self)
        return changes

    def replica_of(self, response_id: str, client: Client) -> str | None:
        """Return the replica that stores the response of this client's tenant; None if there is none."""
        return stored.holder(
            response_id, (endpoint.name for endpoint in self.pool), tenant=client.tenant
        )

    @property
    def revision(self) -> str:
        """Names of all revisions with weight, as one string for cache keys."""
        return ",".join(sorted(r.name for r in self.settings.revisions if r.weight))

    @property
    def origins(self) -> Sequence[str]:
        """Return the origins whose scripts may call the service."""
        return () if self.settings.cors is None else self.settings.cors.allow_origins

    def serves(self, model: str) -> bool:
        """Whether this is the model name of the service or of one of its adapters."""
        return model == self.settings.model or model in self.settings.adapters

    def client(self, key: bytes | None) -> Client | None:
        """Return the client of the key; a service without keys admits everyone as an anonymous client."""
        return self._keyring.client(key) if self.settings.keys else ANONYMOUS

    @property
    def tenancy(self) -> Tenancy:
        """Return the rule by which tenants are kept apart in engines."""
        return self._tenancy

    @property
    def refused_keys(self) -> Sequence[str]:
        """Names of entries of the Secret with API keys that are no keys."""
        return self._keyring.refused if self.settings.keys else ()

    @property
    def keys_read(self) -> bool:
        """Whether no thread reads the Secret with API keys."""
        return self._keyring.read

    @property
    def keys_known(self) -> bool:
        """Whether it is known which keys open the service."""
        return not self.settings.keys or self._keyring.known

    async def reserve(self, request: Request, client: Client) -> Reservation:
        """Reserve the tenant's tokens for this request; Refusal if there are too few."""
        rate = client.tokens_per_minute
        if rate is None:
            return FREE
        tokens = request.max_tokens(limit=self.settings.limits.max_output_tokens)
        if not tokens:
            return FREE
        try:
            found = await self.budgets.reserve(client.tenant, per_minute=rate, tokens=tokens)
        except OverBudgetError as error:
            wait = None if math.isinf(error.wait) else error.wait
            raise refusals.over_budget(tokens, wait=wait) from None
        request.request_usage()
        return found

    async def acquire_slot(
        self, request: Request, *, tried: set[Endpoint], pause: float, has_fallback: bool = False
    ) -> Endpoint:
        """Return an engine with a slot for the request; Refusal if none is free in time.

        The caller must call `release_slot`. Engines that were tried are excluded; after `pause` seconds
        without another engine they may be tried again. A request with a fallback waits only
        `FALLBACK_WAIT_SECONDS`, and only for engines that are up.
        """
        if request.response_id is not None:
            return self._enter_holder(request.response_id, request)
        if self.settings.stopped and not self.pool.serving:
            raise refusals.stopped()
        if has_fallback and not self.pool.has_candidate(tried=tried):
            if not self.pool.serving:
                self._activate(self)
            raise refusals.no_replica()
        self._turns.saw(request.client, priority=request.priority, now=self._clock())
        if not self._queue:
            endpoint = self._take(request, tried=tried)
            if endpoint is not None:
                return endpoint
        waiter = Waiter(request, tried=tried)
        self._queue.add(waiter)
        retry_timer = None
        if tried:
            retry_timer = asyncio.get_running_loop().call_later(
                pause, self._retry_after_pause, waiter
            )
        try:
            return await self._wait(waiter, has_fallback=has_fallback)
        finally:
            self._queue.remove(waiter)
            if retry_timer is not None:
                retry_timer.cancel()

    def _enter_holder(self, response_id: str, request: Request) -> Endpoint:
        """Return the engine that stores a response. Reading it computes nothing, so it needs no free slot."""
        endpoint = None if request.replica is None else self.pool.named(request.replica)
        if endpoint is None:
            raise refusals.no_response(response_id)
        endpoint.enter(request, slots=1)
        self._turns.began(request.client, request.taken)
        return endpoint

    def release_slot(self, endpoint: Endpoint, request: Request) -> None:
        """Free the request's slots in the engine, for the next requests in the queue."""
        endpoint.computed(request)
        self._turns.ended(request.client, request.taken)
        self._turns.saw(request.client, priority=request.priority, now=self._clock())
        endpoint.leave(request)
        if self._queue:
            self.dispatch()

    def died(self, endpoint: Endpoint, request: Request) -> int:
        """Note that the engine died with the request; return the number of engines that did."""
        if endpoint.death is None:
            self._last_death += 1
            endpoint.death = self._last_death
            self.metrics.deaths.inc()
        known = request.identify()
        if known is None:
            return 0
        self._deaths.note(known, death=endpoint.death, now=self._clock())
        return self._deaths.count(known)

    def check_deaths(self, request: Request) -> None:
        """Refuse a request that engines had when they died."""
        if not self._deaths.known:
            return
        self._deaths.expire(now=self._clock())
        # NB: a request is hashed only while a death is remembered.
        known = request.identify() if self._deaths.known else None
        if known is not None and self._deaths.forbids(known):
            raise refusals.engines_died(DEATHS_SECONDS)

    def survived(self, request: Request) -> None:
        """Note that the request has a complete answer."""
        if self._deaths.known and request.fingerprint is not None:
            self._deaths.answered(request.fingerprint)

    def failed(self, endpoint: Endpoint) -> None:
        """Note that the engine did not answer; it may be ejected."""
        if endpoint.failed(self._clock()):
            self.metrics.ejections.inc()
            asyncio.get_running_loop().call_later(EJECTION_SECONDS + _TIMER_SECONDS, self.dispatch)

    def answered(self, endpoint: Endpoint, request: Request) -> None:
        """Note that the engine began to answer."""
        endpoint.computed(request)
        self.pool.picker.served(endpoint, request)
        if endpoint.succeeded():
            self.dispatch()

    def dispatch(self) -> None:
        """Give free slots to waiting requests: by priority, and of one priority to the tenants in turn."""
        for waiter in self._queue.in_turn(rank=self._turns.rank, admits=self._admits):
            if waiter.slot.done():  # its client disconnected, and its task has not run since
                self._queue.remove(waiter)
                continue
            endpoint = self._take(waiter.request, tried=waiter.tried)
            if endpoint is not None:
                self._queue.remove(waiter)
                waiter.slot.set_result(endpoint)
            elif not waiter.tried and waiter.request.replica is None and self._fits(waiter.request):
                return

    def close(self, refusal: Refusal) -> None:
        """End: refuse all waiting requests, and forget all answers."""
        self.reject_waiting(refusal)
        self._forget_answers()

    def _forget_answers(self) -> None:
        if self.cache is not None:
            self.cache.close()

    def reject_waiting(self, refusal: Refusal) -> None:
        """Refuse all waiting requests."""
        self._queue.reject_all(refusal)

    def _take(self, request: Request, *, tried: set[Endpoint]) -> Endpoint | None:
        """Take a slot in an engine; None if none is free for the request's tenant."""
        if not self._admits(request.client, request.priority):
            return None
        endpoint = self.pool.take(request, tried=tried)
        if endpoint is not None:
            self._turns.began(request.client, request.taken)
        return endpoint

    def _fits(self, request: Request) -> bool:
        """Whether free slots wait until there are enough for the request, because it is within its tenant's share."""
        if request.slots == 1:
            return True
        slots, _ = self.pool.slots()
        return self._turns.fits(request.client, request.slots, slots, waiting=self._queue.tenants())

    def _admits(self, tenant: str, priority: int) -> bool:
        """Whether the tenant may take a free slot, if there is one."""
        if not self._turns.contended(tenant, priority=priority, now=self._clock()):
            return True
        slots, taken = self.pool.slots()
        return self._turns.admits(tenant, slots=slots, taken=taken)

    async def _wait(self, waiter: Waiter, *, has_fallback: bool) -> Endpoint:
        self.dispatch()
        if self.starving:
            self._activate(self)
        hold = self.settings.limits.hold
        if has_fallback:
            hold = min(hold, FALLBACK_WAIT_SECONDS)
        taken = False
        try:
            async with asyncio.timeout(hold):
                endpoint = await waiter.slot
            taken = True
            return endpoint
        except TimeoutError:
            raise refusals.held_too_long(hold) from None
        finally:
            if not taken and waiter.slot.done() and not waiter.slot.cancelled():
                self._give_back(waiter)

    def _give_back(self, waiter: Waiter) -> None:
        """Free a slot that was given while the client disconnected."""
        if waiter.slot.exception() is None:
            self.release_slot(waiter.slot.result(), waiter.request)

    def _retry_after_pause(self, waiter: Waiter) -> None:
        waiter.tried.clear()
        self.dispatch()


def _cache(
    settings: config.Responses | None, *, clock: Callable[[], float], memory: CacheMemory
) -> ResponseCache[AnswerFuture] | None:
    if settings is None:
        return None
    return ResponseCache(ttl=settings.ttl, size=settings.size, clock=clock, memory=memory)
