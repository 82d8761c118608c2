"""Requests of the router's own to a service of the namespace, which a client's request needs."""

from typing import Final

import aiohttp
import orjson

from slipstream_runtime.router.balancing.endpoints import Endpoint
from slipstream_runtime.router.messages.headers import engine_headers
from slipstream_runtime.router.messages.request import Request, parse_request
from slipstream_runtime.router.messages.usage import Tokens, Usage
from slipstream_runtime.router.proxy.exchange import Proxy
from slipstream_runtime.router.proxy.upstream import Fault, Unanswered
from slipstream_runtime.router.service import Service
from slipstream_runtime.router.tenants.budgets import Reservation
from slipstream_runtime.web import answers
from slipstream_runtime.web.keyring import Client
from slipstream_runtime.web.refusal import forbidden

ANSWER_BYTES: Final = 1024 * 1024
"""Bytes of an answer: far more than its output tokens take."""


class CallError(Exception):
    """Raised for an answer that is an error, or too large."""


class Call:
    """One request to a service, on behalf of a client: its key must open the service, and its budget pays."""

    def __init__(self, proxy: Proxy, service: Service, *, client: Client, peer: str) -> None:
        self._proxy = proxy
        self._service = service
        self._client = client
        self._peer = peer
        self._usage = Usage()
        self._sent: float | None = None
        self.used = Tokens()
        """Tokens that the answer used, once there is one."""

    async def run(self, path: str, content: dict[str, object]) -> bytes:
        """Return the body of the answer. Refusal if no replica gives one soon, and CallError.

        The service must be up: a request that can go on without the answer does not wait for a start.
        """
        service = self._service
        request = parse_request(
            orjson.dumps({**content, "model": service.settings.model}), path=path
        )
        if not self._client.may_use(request.model):
            raise forbidden(request.model)
        request.check_text(service.settings.limits.max_text)
        request.client = self._client.tenant or self._peer
        request.set_tenant(self._client, service.tenancy)
        service.in_flight += 1
        service.metrics.requests.inc()
        try:
            reservation = await service.reserve(request, self._client)
            try:
                return await self._answer(request)
            finally:
                self._settle(request, reservation)
        finally:
            service.in_flight -= 1

    async def _answer(self, request: Request) -> bytes:
        service = self._service
        service.check_deaths(request)
        endpoint = await service.acquire_slot(request, tried=set(), pause=0.0, has_fallback=True)
        try:
            body = await self._send(endpoint, request)
            service.answered(endpoint, request)
            service.survived(request)
            return body
        except Unanswered as failure:
            service.failed(endpoint)
            if failure.fault is Fault.RESET:
                service.died(endpoint, request)
            raise failure.refusal from None
        finally:
            service.release_slot(endpoint, request)

    async def _send(self, endpoint: Endpoint, request: Request) -> bytes:
        proxy = self._proxy
        token = proxy.tokens.value(endpoint.revision)
        self._sent = proxy.clock()
        reply = await proxy.upstream.send(
            endpoint,
            request=request,
            body=request.raw,
            headers=engine_headers({"content-type": "application/json"}, token=token),
            limits=self._service.settings.limits,
        )
        try:
            body = await answers.read(reply, most=ANSWER_BYTES)
            if reply.status != 200:
                self._sent = None  # an error costs nothing
                raise CallError(f"status {reply.status}")
            self._usage.read(body)
            return body
        except answers.TooLargeError as error:
            raise CallError(str(error)) from None
        except aiohttp.ClientError:
            raise CallError("the answer broke off") from None
        finally:
            reply.close()

    def _settle(self, request: Request, reservation: Reservation) -> None:
        """Settle the budget with the usage that the engine reported, or with all that was reserved."""
        if self._usage.prompt is not None:
            self.used = Tokens(self._usage.prompt, self._usage.output)
            self._service.metrics.used(self.used.prompt, self.used.output)
        elif self._sent is not None:
            output = request.max_output(limit=None) or 0
            self.used = Tokens(int(request.prompt_tokens), output)
        reservation.settle(self.used.prompt + self.used.output)
