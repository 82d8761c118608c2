"""One request that was let in: from its place in an engine to the last byte of its answer."""

import asyncio
import enum
import itertools
from collections.abc import Callable

import aiohttp
from aiohttp import web

from slipstream_runtime.router.balancing import retries
from slipstream_runtime.router.balancing.endpoints import Endpoint
from slipstream_runtime.router.cache.sharing import ResponseCopy
from slipstream_runtime.router.cascade.totals import Tokens
from slipstream_runtime.router.messages.headers import engine_headers
from slipstream_runtime.router.messages.request import Request
from slipstream_runtime.router.metrics import Phase
from slipstream_runtime.router.proxy.relay import Broken, Relay
from slipstream_runtime.router.proxy.upstream import Token, Unanswered, Upstream
from slipstream_runtime.router.service import Reservation, Service
from slipstream_runtime.router.tenants.keyring import Client
from slipstream_runtime.web.refusal import Refusal, answer_late


class Buffering(enum.Enum):
    """Answer that is returned whole instead of being streamed to the client."""

    NONE = "none"
    FAILURES = "failures"
    ALL = "all"


class Exchange:
    """Request of one client and its outcome."""

    def __init__(
        self,
        http_request: web.BaseRequest,
        service: Service,
        request: Request,
        *,
        upstream: Upstream,
        token: Token,
        clock: Callable[[], float],
        arrived: float,
        leaving: Callable[[], bool],
        buffering: Buffering = Buffering.NONE,
        has_fallback: bool = False,
    ) -> None:
        self._http_request = http_request
        self._service = service
        self._request = request
        self._upstream = upstream
        self._token = token
        self._clock = clock
        self._arrived = arrived
        self._leaving = leaving
        self._buffering = buffering
        self._has_fallback = has_fallback
        self.used = Tokens()
        """By the answer, once it is over."""
        self.broken = False
        """The client got a part of the answer, and not the rest."""
        self._relay: Relay | None = None
        self._copy: ResponseCopy | None = None
        self._phase = Phase.WAITING
        self._limit: asyncio.Timeout | None = None
        self._why: Refusal | None = None

    def end(self, why: Refusal) -> None:
        """Let it end now; the client hears why."""
        self._why = why
        if self._limit is not None:
            self._limit.reschedule(0.0)

    async def run(self, client: Client, *, copy: ResponseCopy | None = None) -> web.StreamResponse:
        """The client's response; Refusal if it got no byte."""
        if self._why is not None:
            raise self._why
        self._copy = copy
        reservation = self._service.reserve(self._request, client)
        metrics = self._service.metrics
        seconds = self._service.settings.limits.timeout
        try:
            async with asyncio.timeout(seconds) as self._limit:
                response = await self._answer()
                if response.status < 400:
                    metrics.e2e.observe(self._clock() - self._arrived)
                return response
        except TimeoutError:
            why = self._why or answer_late(seconds)
            if self._relay is None or self._relay.response is None:
                raise why from None
            await self._relay.tell(why)
            self._broke()
            return self._relay.response
        except Broken:
            self._broke()
            assert self._relay is not None and self._relay.response is not None
            return self._relay.response
        except (asyncio.CancelledError, ConnectionError):
            metrics.cancelled(self._phase)
            raise
        finally:
            self._limit = None
            self._settle(reservation)
            # NB: the relay knows this exchange, too: what both hold would wait for the next look for garbage.
            self._relay = None

    async def _answer(self) -> web.StreamResponse:
        """Ask one engine after the other, as far as retries go."""
        service, tried = self._service, set[Endpoint]()
        service.retries.earn()
        for attempt in itertools.count():
            self._phase = Phase.WAITING
            began = self._clock()
            endpoint = await service.acquire_slot(
                self._request,
                tried=tried,
                pause=retries.PAUSE_SECONDS * 2 ** (attempt - 1),
                has_fallback=self._has_fallback,
            )
            service.metrics.wait.observe(self._clock() - began)
            try:
                return await self._ask(endpoint)
            except Unanswered as failure:
                service.failed(endpoint)
                tried.add(endpoint)
                if attempt >= retries.MOST or not self._again(tried):
                    raise failure.refusal from None
                service.metrics.retried(failure.fault)
            finally:
                service.release_slot(endpoint, self._request)
        raise AssertionError

    def _again(self, tried: set[Endpoint]) -> bool:
        """Whether the request may be sent once more, which then counts."""
        service = self._service
        if self._has_fallback and not service.pool.able(tried=tried):
            return False
        return service.retries.spend()

    async def _ask(self, endpoint: Endpoint) -> web.StreamResponse:
        request, limits = self._request, self._service.settings.limits
        self._phase = Phase.ANSWERING
        reply = await self._upstream.send(
            endpoint,
            path=request.path,
            body=request.raw,
            headers=engine_headers(self._http_request.headers, token=self._token.value()),
            limits=limits,
        )
        try:
            return await self._pass(endpoint, reply)
        finally:
            # NB: of an answer that is complete, the connection is back in the pool; any other must end with it, for
            # that is how an engine hears that nobody waits for the rest.
            reply.close()

    async def _pass(self, endpoint: Endpoint, reply: aiohttp.ClientResponse) -> web.StreamResponse:
        self._relay = Relay(
            self._http_request,
            reply,
            request=self._request,
            metrics=self._service.metrics,
            limits=self._service.settings.limits,
            clock=self._clock,
            arrived=self._arrived,
            leaving=self._leaving(),
            begun=lambda: self._begun(endpoint),
            copy=self._copy,
            buffered=self._buffers(reply),
        )
        return await self._relay.run()

    def _buffers(self, reply: aiohttp.ClientResponse) -> bool:
        if self._buffering is Buffering.FAILURES:
            return reply.status >= 300
        return self._buffering is Buffering.ALL

    def _begun(self, endpoint: Endpoint) -> None:
        """The engine's first byte is there."""
        self._phase = Phase.STREAMING
        self._service.answered(endpoint, self._request)

    def _broke(self) -> None:
        self.broken = True
        self._service.metrics.broken.inc()

    def _settle(self, reservation: Reservation) -> None:
        """Settle the budget with the usage that the engine reported or that was counted; no answer costs nothing."""
        if self._relay is not None:
            counted = self._relay.counted
            counted.guess()
            if counted.prompt is not None:
                self._service.metrics.used(counted.prompt, counted.output)
                self.used = Tokens(counted.prompt, counted.output)
            elif counted.events:
                self.used = Tokens(int(self._request.prompt_tokens), counted.output)
        reservation.settle(self.used.prompt + self.used.output)
