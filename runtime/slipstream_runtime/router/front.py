"""Handling of a client's request: route, validate, authorize, queue, proxy.

Every request that is counted in is counted out, however it ends.
"""

import asyncio
import itertools
import urllib.parse
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import cast

import orjson
from aiohttp import web

from slipstream_runtime.router.cascade.route import Route
from slipstream_runtime.router.cascade.run import CascadeRun
from slipstream_runtime.router.catalogue import Catalogue
from slipstream_runtime.router.hooks.hooks import Sender
from slipstream_runtime.router.messages import cors, refusals
from slipstream_runtime.router.messages.request import Request
from slipstream_runtime.router.metrics import Metrics
from slipstream_runtime.router.proxy.bodies import Bodies
from slipstream_runtime.router.proxy.exchange import Exchange, Proxy
from slipstream_runtime.router.proxy.listener import HEAD_BYTES, Connection, answer, head_too_large
from slipstream_runtime.router.service import Service
from slipstream_runtime.router.table import Table
from slipstream_runtime.web import keys, openai
from slipstream_runtime.web.keyring import Client
from slipstream_runtime.web.openai import Reason
from slipstream_runtime.web.refusal import (
    CLOSE,
    Refusal,
    forbidden,
    keys_unknown,
    no_route,
    unauthorized,
    wrong_method,
)
from slipstream_runtime.web.waiting import happens


class Front:
    """Handler of all requests of one router; belongs to one event loop."""

    def __init__(
        self,
        *,
        table: Table,
        proxy: Proxy,
        metrics: Metrics,
        chance: Callable[[], float],
        clock: Callable[[], float],
        bodies: Bodies,
        catalogue: Catalogue,
    ) -> None:
        self._table = table
        self._proxy = proxy
        self._metrics = metrics
        self._chance = chance
        self._clock = clock
        self._bodies = bodies
        self._catalogue = catalogue
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
            self._allow_origin(response, http_request)
        # NB: aiohttp does not read what follows the offer of another protocol, so the client must send it again.
        if (self.leaving or "upgrade" in http_request.headers) and not response.prepared:
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
        if allowed is None:
            raise _closing(no_route(path))
        head = _head_size(http_request)
        if head > HEAD_BYTES:
            raise head_too_large()
        _check_coding(http_request)
        if method == "OPTIONS" and (found := self._preflight(http_request, allowed)) is not None:
            return found
        if method != allowed and (method, allowed) != ("HEAD", "GET"):
            raise wrong_method(path, method, allowed=allowed)
        if self.closed:
            raise refusals.draining()
        here = self._table.by_host(http_request.headers.get("host", ""))
        if path == openai.HEALTH:
            return self._allow_origin(self._health(here), http_request)
        key = _key(http_request)
        if path == openai.MODELS or openai.MODEL.fullmatch(path):
            found = await self._models(path, here, key)
            return self._allow_origin(found, http_request)
        services = self._table.services() if here is None else (here,)
        clients = [(s, client) for s in services if (client := s.client(key)) is not None]
        if services and not clients:
            raise _no_client(services)  # before the body is read
        identity = _identify(http_request, clients)
        if (stored := openai.STORED_RESPONSE.fullmatch(path)) is not None:
            with self._bodies.headers(identity, head=head):
                return await self._answer(
                    http_request, self._stored(http_request, stored["id"], clients, arrived=arrived)
                )
        seconds = self._seconds_for_the_body(services)
        request = await self._bodies.request(
            http_request,
            path=path,
            seconds=seconds,
            upload_size=max((s.settings.limits.upload_size for s in services), default=0),
            client=identity,
            head=head,
        )
        try:
            return await self._dispatch(http_request, request, here=here, key=key, arrived=arrived)
        finally:
            if request.lease is not None:
                request.lease.release()

    async def _dispatch(
        self,
        http_request: web.BaseRequest,
        request: Request,
        *,
        here: Service | None,
        key: bytes | None,
        arrived: float,
    ) -> web.StreamResponse:
        """Send the request to the service or route of its model."""
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
            raise _no_client((service,))
        _find_replica(request, [(service, client)])
        return await self._answer(
            http_request,
            self._proxy.exchange(http_request, service, request, client=client, arrived=arrived),
        )

    def _preflight(self, http_request: web.BaseRequest, allowed: str) -> web.Response | None:
        """Return the answer to a browser that asks before a cross-origin request; None if no service has CORS."""
        headers, origins = http_request.headers, self._origins(http_request)
        origin, method = headers.get("origin"), headers.get("access-control-request-method")
        if origin is None or method is None or not origins:
            return None
        asked = headers.get("access-control-request-headers")
        found = cors.preflight(origins, origin, method=allowed, asked=asked)
        if not found:
            raise refusals.origin_forbidden(origin)
        return web.Response(status=204, headers=found)

    def _origins(self, http_request: web.BaseRequest) -> Sequence[str]:
        """Return the origins that the service of the Host allows, or any service if the Host names the router."""
        here = self._table.by_host(http_request.headers.get("host", ""))
        services = self._table.services() if here is None else (here,)
        return [origin for service in services for origin in service.origins]

    def _allow_origin(self, response: web.Response, http_request: web.BaseRequest) -> web.Response:
        """Let a browser read an answer that no service gave."""
        origin = http_request.headers.get("origin")
        if origin is not None:
            response.headers.update(cors.headers(self._origins(http_request), origin))
        return response

    def _health(self, here: Service | None) -> web.Response:
        """Return 200 if the router takes requests, and the service that the Host names has a replica or can start
        one."""
        if here is not None and not (here.pool.serving or here.settings.activation):
            raise refusals.no_replica()
        return web.Response()

    async def _models(self, path: str, here: Service | None, key: bytes | None) -> web.Response:
        """Return the models of all services that accept this key or need none, or the one that the path names."""
        services = self._table.services() if here is None else (here,)
        welcome = [service.name for service in services if service.client(key) is not None]
        if services and not welcome:
            raise _no_client(services)
        names = self._table.models(welcome, here=here)
        match = openai.MODEL.fullmatch(path)
        if match is None:
            cards = await self._catalogue.cards(names, here=here)
            content: Mapping[str, object] = {"object": "list", "data": cards}
        else:
            name = urllib.parse.unquote(match["id"])
            if name not in names:
                raise refusals.unknown_model(name)
            [content] = await self._catalogue.cards([name], here=here)
        return web.Response(body=orjson.dumps(content), content_type="application/json")

    def _seconds_for_the_body(self, services: Collection[Service]) -> float:
        """Return the longest time that any of the services allows, since only the body names one of them."""
        usual = self._bodies.seconds
        limits = [service.settings.limits.body_timeout for service in services]
        return max([limit or usual for limit in limits], default=usual)

    def _stored(
        self,
        http_request: web.BaseRequest,
        response_id: str,
        clients: Sequence[tuple[Service, Client]],
        *,
        arrived: float,
    ) -> Exchange:
        """Return the exchange that reads or cancels a stored response, at the replica that stores it."""
        path, _, query = http_request.raw_path.partition("?")
        fields = urllib.parse.parse_qs(query)
        kept: dict[str, str] = {
            name: fields[name][-1] for name in openai.STORED_QUERY if name in fields
        }
        request = Request(
            path=path,
            raw=b"",
            content={},
            model="",
            stream=False,
            method="POST" if path.endswith("/cancel") else "GET",
            query=urllib.parse.urlencode(kept),
            response_id=response_id,
        )
        for service, client in clients:
            request.replica = service.replica_of(response_id, client)
            if request.replica is not None:
                return self._proxy.exchange(
                    http_request, service, request, client=client, arrived=arrived
                )
        raise refusals.no_response(response_id)

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
            raise _no_client(route.services)
        for client, service in zip(clients, route.services, strict=True):
            if not client.may_use(service.settings.model):
                raise forbidden(request.model)
        positions = route.positions(request.path, chance=self._chance)
        holder = _find_replica(request, list(zip(route.services, clients, strict=True)))
        if holder is not None:
            positions = (route.services.index(holder),)
        return CascadeRun(
            self._proxy,
            http_request,
            route,
            request,
            positions=positions,
            clients=clients,
            arrived=arrived,
            sender=Sender(key, cast(Connection, http_request.protocol).peer, clients),
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
        service = running.service
        origin = http_request.headers.get("origin")
        if origin is not None and not response.prepared:
            response.headers.update(cors.headers(service.origins, origin))
        service.metrics.responded(response.status)
        return response


def _find_replica(request: Request, clients: Sequence[tuple[Service, Client]]) -> Service | None:
    """Bind a request that continues a stored response to the replica that stores it; return its service."""
    if request.path != openai.RESPONSES:
        return None
    previous = request.content.get("previous_response_id")
    if not isinstance(previous, str):
        return None
    for service, client in clients:
        request.replica = service.replica_of(previous, client)
        if request.replica is not None:
            return service
    raise refusals.no_response(previous, param="previous_response_id")


def _refused(refusal: Refusal, http_request: web.BaseRequest) -> web.Response:
    response = answer(refusal, path=http_request.raw_path.partition("?")[0])
    if refusal.headers.get("connection") == "close":
        response.force_close()
    return response


def _closing(refusal: Refusal) -> Refusal:
    """Return the refusal of a request that no client of the API sends, which gets no second one on its connection."""
    refusal.headers.update(CLOSE)
    return refusal


def _check_coding(http_request: web.BaseRequest) -> None:
    """Refuse a transfer coding other than chunked, which another server might read in another way."""
    codings = http_request.headers.getall("transfer-encoding", ())
    if codings and (len(codings) > 1 or codings[0].lower() != "chunked"):
        raise Refusal(400, "transfer-encoding: only chunked is supported.", headers=CLOSE)


def _identify(http_request: web.BaseRequest, clients: Sequence[tuple[Service, Client]]) -> str:
    """Return the tenant of a key, or the address of a client without one, as the client that shares memory."""
    connection = cast(Connection, http_request.protocol)
    tenant = next((client.tenant for _, client in clients if client.tenant), None)
    connection.client = connection.peer if tenant is None else f"tenant {tenant}"
    return connection.client


def _no_client(services: Iterable[Service]) -> Refusal:
    """Return the refusal of a request whose key opens not all, or none, of the services."""
    if all(service.keys_known for service in services):
        return unauthorized(close=True)
    return keys_unknown()


def _key(http_request: web.BaseRequest) -> bytes | None:
    """Return the client's API key as bytes."""
    headers = http_request.headers
    return keys.given(
        authorization=_values(headers.getall("authorization", ())),
        x_api_key=_values(headers.getall("x-api-key", ())),
    )


def _head_size(http_request: web.BaseRequest) -> int:
    return sum(map(len, itertools.chain.from_iterable(http_request.raw_headers)))


def _values(found: Sequence[str]) -> list[bytes]:
    return [value.encode("utf-8", "surrogateescape") for value in found]
