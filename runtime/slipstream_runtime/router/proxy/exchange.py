"""One request to one service: admission, response cache, replica, and retries on other replicas."""

import asyncio
import enum
import itertools
from collections.abc import Callable, Mapping
from typing import Final, cast

from aiohttp import web

from slipstream_runtime.recording.headers import request_id
from slipstream_runtime.recording.recorder import Outcome, Recorder
from slipstream_runtime.router.balancing import retries
from slipstream_runtime.router.balancing.endpoints import Endpoint
from slipstream_runtime.router.cache import sharing
from slipstream_runtime.router.cache.sharing import ResponseCopy
from slipstream_runtime.router.comparing.arms import Arm
from slipstream_runtime.router.messages import cors, refusals, stored
from slipstream_runtime.router.messages.headers import engine_headers
from slipstream_runtime.router.messages.request import Request
from slipstream_runtime.router.messages.usage import Tokens
from slipstream_runtime.router.metrics import Phase
from slipstream_runtime.router.proxy.cost import Work
from slipstream_runtime.router.proxy.listener import Connection
from slipstream_runtime.router.proxy.relay import BrokenAnswer, Relay
from slipstream_runtime.router.proxy.tokens import EngineTokens
from slipstream_runtime.router.proxy.upstream import Fault, Unanswered, Upstream
from slipstream_runtime.router.recording.flight import Flight
from slipstream_runtime.router.service import Service
from slipstream_runtime.router.tenants.budgets import Reservation
from slipstream_runtime.web import body
from slipstream_runtime.web.keyring import Client
from slipstream_runtime.web.openai import Reason
from slipstream_runtime.web.refusal import Refusal, answer_late, forbidden

_CLIENT_LEFT: Final = 499
"""Status of a request whose client left, as nginx records it; no client gets it."""


class Buffering(enum.Enum):
    """Answers that are returned whole, so that another service's answer can replace them."""

    NONE = "none"
    FAILURES = "failures"
    ALL = "all"


class Proxy:
    """Factory of exchanges, which share the connections to replicas, their tokens, the recorder and the clock."""

    def __init__(
        self,
        upstream: Upstream,
        tokens: EngineTokens,
        *,
        recorder: Recorder,
        clock: Callable[[], float],
        leaving: Callable[[], bool],
    ) -> None:
        self.upstream = upstream
        self.tokens = tokens
        self.recorder = recorder
        self.clock = clock
        self.leaving = leaving
        """Whether the router drains, so that clients must close their connections."""

    def exchange(
        self,
        http_request: web.BaseRequest,
        service: Service,
        request: Request,
        *,
        client: Client,
        arrived: float,
        buffering: Buffering = Buffering.NONE,
        has_fallback: bool = False,
    ) -> "Exchange":
        """Return the exchange for a request that arrived at the service at `arrived`, in seconds of the clock.

        With `has_fallback`, another service answers if this one has no replica soon.
        """
        return Exchange(
            self,
            http_request,
            service,
            request,
            client=client,
            arrived=arrived,
            buffering=buffering,
            has_fallback=has_fallback,
        )


class Exchange:
    """Request of one client to one service, until its answer is complete."""

    def __init__(
        self,
        proxy: Proxy,
        http_request: web.BaseRequest,
        service: Service,
        request: Request,
        *,
        client: Client,
        arrived: float,
        buffering: Buffering,
        has_fallback: bool,
    ) -> None:
        self._proxy = proxy
        self._http_request = http_request
        self.service = service
        self._request = request
        self._client = client
        self._arrived = arrived
        self._buffering = buffering
        self._has_fallback = has_fallback
        self.used = Tokens()
        """Tokens that the answer used, once it is complete."""
        self.broken = False
        """Whether the client got only a part of the answer."""
        self._relay: Relay | None = None
        self._phase = Phase.WAITING
        self._timeout: asyncio.Timeout | None = None
        self._aborted: Refusal | None = None
        self._flight = Flight(request_id(http_request.headers))
        self._arm: Arm | None = None
        """Totals of the revision that has the request, if revisions are compared."""
        self._answers = 1
        self._unwanted = False
        """Whether the client left, or its time ended, while the engine worked."""

    def abort(self, refusal: Refusal) -> None:
        """End the exchange now; the client gets the refusal."""
        self._aborted = refusal
        if self._timeout is not None:
            self._timeout.reschedule(0.0)

    async def run(self) -> web.StreamResponse:
        """Admit the request and return the client's response; Refusal if the client got no byte."""
        service, request = self.service, self._request
        service.in_flight += 1
        if request.computes:
            service.metrics.requests.inc()
        status, outcome = _CLIENT_LEFT, Outcome.CANCELLED
        try:
            response = await self._admit()
            status = response.status
            outcome = Outcome.BROKEN if self.broken else Outcome.ANSWERED
            return response
        except Refusal as refusal:
            status, outcome = refusal.status, Outcome.ANSWERED
            service.metrics.refused(refusal.reason or Reason.OTHER)
            raise
        finally:
            service.in_flight -= 1
            if request.computes:
                self._record(status, outcome)

    async def _admit(self) -> web.StreamResponse:
        """Check the client's rights, and return its own answer or that of an equal request."""
        service, request, client = self.service, self._request, self._client
        if request.response_id is None and not client.may_use(request.model):
            raise forbidden(request.model)
        request.check_text(service.settings.limits.max_text)
        request.client = client.tenant or cast(Connection, self._http_request.protocol).peer
        request.set_tenant(client, service.tenancy)
        cache, key = service.cache, None
        if cache is not None:
            headers, revision = self._http_request.headers, service.revision
            key = sharing.key(request, headers, revision=revision, tenant=client.tenant)
        if cache is None or key is None:
            return await self._forward()
        seconds = service.settings.limits.seconds
        return await sharing.share(cache, key, request, run=self._share, seconds=seconds)

    def _record(self, status: int, outcome: Outcome) -> None:
        """Keep the times of the request, which ends now."""
        proxy, request, service = self._proxy, self._request, self.service
        now = proxy.clock()
        parts = self._flight.parts(self._arrived, now)
        service.times.add(parts)
        if self._arm is not None and self._aborted is None:
            output = self.used.output
            self._arm.ended(self._flight, now=now, status=status, outcome=outcome, output=output)
        proxy.recorder.add(
            self._flight.id,
            parts,
            took=sum(parts),
            service=service.name,
            replica=self._flight.replica,
            retries=self._flight.retries,
            streamed=self._flight.streamed,
            status=status,
            outcome=outcome,
            prompt=self.used.prompt or int(request.prompt_tokens),
            output=self.used.output,
        )

    async def _share(self, copy: ResponseCopy | None) -> web.StreamResponse:
        """Forward the request; its answer is not shared any more once its client holds up the engine."""
        connection = cast(Connection, self._http_request.protocol)
        connection.held_up = None if copy is None else copy.drop
        try:
            return await self._forward(copy)
        finally:
            connection.held_up = None

    async def _forward(self, copy: ResponseCopy | None = None) -> web.StreamResponse:
        """Return a replica's answer within the service's timeout, charged to the client's budget."""
        if self._aborted is not None:
            raise self._aborted
        service = self.service
        reservation = await service.reserve(self._request, self._client)
        seconds = service.settings.limits.seconds
        try:
            async with asyncio.timeout(seconds) as self._timeout:
                response = await self._answer(copy)
                if response.status < 400 and self._request.computes:
                    service.metrics.request_duration.observe(self._proxy.clock() - self._arrived)
                return response
        except TimeoutError:
            self._unwanted = self._aborted is None
            refusal = self._aborted or answer_late(seconds)
            if self._relay is None or self._relay.response is None:
                raise refusal from None
            await self._relay.break_off(refusal)
            self._count_broken()
            return self._relay.response
        except BrokenAnswer:
            self._count_broken()
            assert self._relay is not None and self._relay.response is not None
            return self._relay.response
        except (asyncio.CancelledError, ConnectionError):
            self._unwanted = True
            service.metrics.cancelled(self._phase)
            raise
        finally:
            self._timeout = None
            self._settle(reservation)
            # NB: the relay refers to this exchange: without this line only the garbage collector frees both.
            self._relay = None

    async def _answer(self, copy: ResponseCopy | None) -> web.StreamResponse:
        """Send the request to one replica after another, within the retry budget."""
        service, flight, tried, resets = self.service, self._flight, set[Endpoint](), 0
        service.check_deaths(self._request)
        service.retries.earn()
        if service.arms:
            self._request.request_usage()
        for attempt in itertools.count():
            self._phase = Phase.WAITING
            began, asleep = self._proxy.clock(), not service.pool.serving
            endpoint = await service.acquire_slot(
                self._request,
                tried=tried,
                pause=retries.PAUSE_SECONDS * 2 ** (attempt - 1),
                has_fallback=self._has_fallback,
            )
            taken = self._proxy.clock()
            flight.waited(taken - began, asleep=asleep)
            flight.replica = endpoint.name
            if service.arms:
                self._arm = service.arms.enter(endpoint, self._request, flight, now=taken)
            if self._request.computes:
                service.metrics.queue_duration.observe(taken - began)
            try:
                service.check_deaths(self._request)
                response = await self._send(endpoint, copy)
                service.survived(self._request)
                return response
            except BrokenAnswer as broken:
                if broken.died:
                    service.died(endpoint, self._request)
                raise
            except Unanswered as failure:
                flight.gave_up(self._proxy.clock() - taken)
                rest = self._request.rest
                if rest is not None and rest.refusal is not None:
                    raise rest.refusal from None
                if self._arm is not None:
                    self._arm.failed()
                service.failed(endpoint)
                tried.add(endpoint)
                if failure.fault is Fault.RESET:
                    resets = max(resets + 1, service.died(endpoint, self._request))
                if (
                    attempt >= retries.MOST
                    or resets > retries.MOST_RESETS
                    or not self._may_retry(tried)
                ):
                    raise failure.refusal from None
                service.metrics.retried(failure.fault)
            finally:
                if self._arm is not None:
                    self._leave_arm(self._arm, endpoint)
                service.release_slot(endpoint, self._request)
        raise AssertionError

    def _leave_arm(self, arm: Arm, endpoint: Endpoint) -> None:
        """Note that the replica has answered the request, or that it goes to another one."""
        left, now = endpoint.in_flight - self._request.taken, self._proxy.clock()
        arm.leave(self._flight, endpoint.name, now=now, in_flight=left)
        if self._flight.sent is None:
            self._arm = None

    def _may_retry(self, tried: set[Endpoint]) -> bool:
        """Whether the request may be sent again; if so, take a retry from the budget."""
        service = self.service
        request = self._request
        if request.replica is not None or (request.rest is not None and request.rest.started):
            return False
        if self._has_fallback and not service.pool.has_candidate(tried=tried):
            return False
        return service.retries.spend()

    async def _send(self, endpoint: Endpoint, copy: ResponseCopy | None) -> web.StreamResponse:
        """Send the request to a replica, and relay its answer to the client."""
        proxy, request, limits = self._proxy, self._request, self.service.settings.limits
        self._phase = Phase.ANSWERING
        self._flight.sent, self._answers = proxy.clock(), request.slots
        if request.rest is not None:
            request.rest.crowded = lambda: bool(self.service.queued)
        reply = await proxy.upstream.send(
            endpoint,
            request=request,
            body=self._body(endpoint),
            headers=engine_headers(
                self._http_request.headers,
                token=proxy.tokens.value(endpoint.revision),
                request_id=self._flight.id,
                content_type=request.content_type,
                known_prefix=request.known_prefix,
            ),
            limits=limits,
        )
        if request.response_id is not None and reply.status == 404:
            reply.close()
            raise refusals.no_response(request.response_id)
        failures = self._buffering is Buffering.FAILURES and reply.status >= 300
        try:
            self._relay = Relay(
                self._http_request,
                reply,
                request=request,
                metrics=self.service.metrics,
                limits=limits,
                clock=proxy.clock,
                arrived=self._arrived,
                leaving=proxy.leaving(),
                more_headers=self._cors(),
                started=lambda: self._started(endpoint),
                copy=copy,
                flight=self._flight,
                buffered=failures or self._buffering is Buffering.ALL,
            )
            response = await self._relay.run()
            if copy is not None:
                copy.complete()
            return response
        finally:
            # NB: a complete answer has returned its connection to the pool. Any other answer's connection must close:
            # so the replica learns that it can stop.
            reply.close()

    def _cors(self) -> Mapping[str, str]:
        """Return the headers that let a browser's script read the answer."""
        origin = self._http_request.headers.get("origin")
        return {} if origin is None else cors.headers(self.service.origins, origin)

    def _body(self, endpoint: Endpoint) -> bytes:
        """Return the body for this replica, with an id by which its stored response is found again."""
        request = self._request
        if not request.stores:
            return request.raw
        response_id = stored.new_id(replica=endpoint.name, tenant=self._client.tenant)
        return body.extended(request.raw, {stored.FIELD: response_id})

    def _started(self, endpoint: Endpoint) -> None:
        """Note that the first byte of the answer arrived."""
        self._phase = Phase.STREAMING
        self._flight.replied = self._proxy.clock()
        self.service.answered(endpoint, self._request)
        self._request.release()

    def _count_broken(self) -> None:
        self.broken = True
        self.service.metrics.broken.inc()

    def _settle(self, reservation: Reservation) -> None:
        """Settle the budget with the usage that the engine reported, or else with an estimate.

        An answer that failed costs nothing.
        """
        sent = self._flight.sent
        if self._request.computes and sent is not None:
            work = Work(
                self._request,
                answers=self._answers,
                seconds=self._proxy.clock() - sent,
                unwanted=self._unwanted,
            )
            self.used = work.cost(self.service, self._relay, reservation)
            if self._arm is not None and self._relay is not None:
                self._arm.replied(self._flight, self._relay.usage)
        reservation.settle(self.used.prompt + self.used.output)
