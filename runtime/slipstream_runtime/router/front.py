"""Handling of a client's request: route, validate, authorize, queue, proxy.

Every request that is counted in is counted out, however it ends.
"""

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import Final

import orjson
from aiohttp import web

from slipstream_runtime.router.cascade.route import Route
from slipstream_runtime.router.cascade.run import CascadeRun
from slipstream_runtime.router.messages import refusals
from slipstream_runtime.router.messages.request import Request, parse_request
from slipstream_runtime.router.metrics import Metrics
from slipstream_runtime.router.proxy.exchange import Exchange, Proxy
from slipstream_runtime.router.proxy.listener import answer
from slipstream_runtime.router.proxy.upstream import RouterToken, Upstream
from slipstream_runtime.router.service import Service
from slipstream_runtime.router.table import Table
from slipstream_runtime.web import asgi, body, keys, openai
from slipstream_runtime.web.openai import Reason
from slipstream_runtime.web.refusal import (
    CLOSE,
    Refusal,
    body_late,
    malformed,
    no_route,
    unauthorized,
    wrong_method,
)
from slipstream_runtime.web.waiting import happens

BODY_SECONDS: Final = 60.0
"""Seconds for the client to send its body, unless a service allows more."""


class Front:
    """Handler of all requests of one router; belongs to one event loop."""

    def __init__(
        self,
        *,
        table: Table,
        upstream: Upstream,
        token: RouterToken,
        metrics: Metrics,
        chance: Callable[[], float],
        clock: Callable[[], float],
        body_seconds: float = BODY_SECONDS,
    ) -> None:
        self._table = table
        self._proxy = Proxy(upstream, token, clock=clock, leaving=lambda: self.leaving)
        self._metrics = metrics
        self._chance = chance
        self._clock = clock
        self._body_seconds = body_seconds
        self._running: set[Exchange | CascadeRun] = set()
        self._empty = asyncio.Event()
        self._empty.set()
        self.leaving = False
        """Whether clients must close their connections."""
        self.closed = False
        """Whether new requests are refused."""

    @property
    def in_flight(self) -> int:
        """Requests that were admitted and are not finished."""
        return len(self._running)

    async def handle(self, http_request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        try:
            response = await self._route(http_request)
        except Refusal as refusal:
            self._metrics.refused(refusal.reason or Reason.OTHER)
            response = _refused(refusal, http_request)
        if self.leaving and not response.prepared:
            response.force_close()
        return response

    async def emptied(self, *, within: float) -> bool:
        """Wait until nothing is in flight; False if that takes longer than `within` seconds."""
        return await happens(self._empty, within=within)

    def abort(self) -> None:
        """End all requests in flight; the clients get a refusal."""
        for running in self._running:
            running.abort(refusals.draining())

    async def _route(self, http_request: web.BaseRequest) -> web.StreamResponse:
        """Check the request as far as possible before reading its body, then route it."""
        arrived = self._clock()
        target, method = http_request.raw_path, http_request.method
        path, _, _ = target.partition("?")
        if not path.startswith("/"):
            raise Refusal(400, "The request target must be a path.", headers=CLOSE)
        allowed = openai.method(path)
        form = openai.FORMS.get(path)
        if allowed is None or (form is not None and form.uploads) or _reads(path):
            raise no_route(path)
        if method != allowed and (method, allowed) != ("HEAD", "GET"):
            raise wrong_method(path, method, allowed=allowed)
        if self.closed:
            raise refusals.draining()
        here = self._table.by_host(http_request.headers.get("host", ""))
        if path == openai.HEALTH:
            return self._health(here)
        key = _key(http_request)
        if path == openai.MODELS:
            return self._models(here, key)
        services = self._table.services() if here is None else (here,)
        if services and all(service.client(key) is None for service in services):
            raise unauthorized(close=True)  # before the body is read
        seconds = self._seconds_for_the_body(services)
        request = parse_request(await self._read(http_request, seconds=seconds), path=path)
        service = self._table.service(request.model, here=here)
        if service is None:
            route = None if here is not None else self._table.route(request.model)
            if route is None:
                raise refusals.unknown_model(request.model)
            return await self._answer(
                http_request,
                self._route_run(http_request, route, request, key=key, arrived=arrived),
            )
        client = service.client(key)
        if client is None:
            raise unauthorized(close=True)
        return await self._answer(
            http_request,
            self._proxy.exchange(http_request, service, request, client=client, arrived=arrived),
        )

    def _health(self, here: Service | None) -> web.Response:
        """Return 200 if the router takes requests, and the service that the Host names has a replica or can start
        one."""
        if here is not None and not (here.pool.serving or here.settings.activation):
            raise refusals.no_replica()
        return web.Response()

    def _models(self, here: Service | None, key: bytes | None) -> web.Response:
        """Return the models of all services that accept this key, or need none."""
        services = self._table.services() if here is None else (here,)
        welcome = [service.name for service in services if service.client(key) is not None]
        if services and not welcome:
            raise unauthorized(close=True)
        names = self._table.models(welcome, here=here)
        content = {
            "object": "list",
            "data": [
                {"id": name, "object": "model", "created": 0, "owned_by": "slipstream"}
                for name in names
            ],
        }
        return web.Response(body=orjson.dumps(content), content_type="application/json")

    def _seconds_for_the_body(self, services: Collection[Service]) -> float:
        """Return the longest time that any of the services allows, since only the body names one of them."""
        limits = [service.settings.limits.body_timeout for service in services]
        return max([limit or self._body_seconds for limit in limits], default=self._body_seconds)

    async def _read(self, http_request: web.BaseRequest, *, seconds: float) -> bytes:
        headers = http_request.headers
        body.check_head(
            (
                (b"content-type", headers.get("content-type", "").encode("latin-1", "replace")),
                (b"content-length", headers.get("content-length", "").encode()),
            )
        )
        if headers.get("content-encoding", "identity").lower() != "identity":
            raise Refusal(
                415,
                "content-encoding: compressed bodies are not supported. Send the body uncompressed.",
                reason=Reason.MALFORMED,
                headers=CLOSE,
            )
        expected = headers.get("expect")
        if expected is not None:
            if expected.lower() != "100-continue":
                raise Refusal(417, "expect: only 100-continue is supported.", headers=CLOSE)
            await http_request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            http_request.writer.output_size = 0
        content = http_request.content
        try:
            if content.is_eof():
                return await http_request.read()
            async with asyncio.timeout(seconds):
                return await http_request.read()
        except web.HTTPRequestEntityTooLarge:
            raise body.too_large(limit=asgi.BODY_LIMIT) from None
        except TimeoutError:
            raise body_late(seconds) from None
        except (web.RequestPayloadError, ValueError):
            raise malformed("The request body is not valid HTTP.") from None

    def _route_run(
        self,
        http_request: web.BaseRequest,
        route: Route,
        request: Request,
        *,
        key: bytes | None,
        arrived: float,
    ) -> CascadeRun:
        """Return the run of a request to a route; Refusal unless the key opens all of its services."""
        clients = [
            client for service in route.services if (client := service.client(key)) is not None
        ]
        if len(clients) < len(route.services):
            raise unauthorized(close=True)
        for client, service in zip(clients, route.services, strict=True):
            if not client.may_use(service.settings.model):
                raise refusals.forbidden(request.model)
        return CascadeRun(
            self._proxy,
            http_request,
            route,
            request,
            positions=route.positions(request.path, chance=self._chance),
            clients=clients,
            arrived=arrived,
        )

    async def _answer(
        self, http_request: web.BaseRequest, running: Exchange | CascadeRun
    ) -> web.StreamResponse:
        """Return the response, and count the request as in flight until then."""
        self._running.add(running)
        self._empty.clear()
        try:
            response = await running.run()
        except Refusal as refusal:
            response = _refused(refusal, http_request)
        finally:
            self._running.discard(running)
            if not self._running:
                self._empty.set()
        running.service.metrics.responded(response.status)
        return response


def _refused(refusal: Refusal, http_request: web.BaseRequest) -> web.Response:
    response = answer(refusal, path=http_request.raw_path.partition("?")[0])
    if refusal.headers.get("connection") == "close":
        response.force_close()
    return response


def _key(http_request: web.BaseRequest) -> bytes | None:
    """Return the client's API key as bytes."""
    headers = http_request.headers
    return keys.given(
        authorization=_values(headers.getall("authorization", ())),
        x_api_key=_values(headers.getall("x-api-key", ())),
    )


def _values(found: Sequence[str]) -> list[bytes]:
    return [value.encode("utf-8", "surrogateescape") for value in found]


def _reads(path: str) -> bool:
    return bool(openai.STORED_RESPONSE.fullmatch(path) or openai.MODEL.fullmatch(path))
