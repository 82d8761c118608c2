"""Front of the engine's application, in the same process: no extra hop between clients and engine.

It admits requests to the API's routes that are complete, authorized and within the limits, once they have a slot. It
counts the requests in flight and can end them in order. It buffers no response.
"""

import asyncio
import dataclasses
import hmac
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import prometheus_client

from slipstream_runtime import contract
from slipstream_runtime.host import admission
from slipstream_runtime.host.exchange import Exchange
from slipstream_runtime.host.lifecycle import Lifecycle
from slipstream_runtime.host.limits import Limits
from slipstream_runtime.host.routes import ROUTES, Route, route
from slipstream_runtime.recording.journal import Journal
from slipstream_runtime.recording.visits import CURRENT
from slipstream_runtime.web import asgi, body, keys, openai
from slipstream_runtime.web.keyring import ANONYMOUS, Client, Keyring
from slipstream_runtime.web.media import bounded, parse_in_steps
from slipstream_runtime.web.openai import Reason
from slipstream_runtime.web.refusal import (
    CLOSE,
    Refusal,
    answer_late,
    body_late,
    forbidden,
    keys_unknown,
    no_route,
    unauthorized,
    wrong_method,
)
from slipstream_runtime.web.tenants import Tenancy
from slipstream_runtime.web.turns import LARGE, Turns
from slipstream_runtime.web.waiting import happens

PROBE_HEADER: Final = b"x-slipstream-probe"
METRICS_KIND: Final = prometheus_client.CONTENT_TYPE_LATEST


_CLIENT_LEFT: Final = 499
"""Status in the record of a request whose client left before an answer began, as in the router."""
_PREFLIGHT: Final = "OPTIONS"
_HEAD: Final = "HEAD"

_DECODED_BYTES: Final = 512 * 1024 * 1024
"""Bytes of decoded media of all requests whose answer has not begun."""

Rule = Callable[[str, Mapping[str, Any], int], Mapping[str, object]]
"""Path, body and its bytes -> fields to set in the body; raises Refusal if the engine can't serve the body."""


@dataclasses.dataclass(frozen=True)
class Guard:
    """Checks of a front beyond the form of requests."""

    limits: Limits = dataclasses.field(default_factory=Limits)
    engine_slots: int | None = None
    """Requests that the engine runs at once; None if it doesn't limit them."""
    keys: Keyring | None = None
    tenancy: Tenancy | None = None
    """Rule for clients that reach the engine directly; None behind a router, which has set their fields."""
    places: Callable[[str, Mapping[str, Any]], int] = lambda _path, _body: 1
    """Path and body -> places that the request takes."""
    rule: Rule | None = None
    trial: Callable[[Mapping[str, Any], str], Awaitable[None]] | None = None
    """Check of a body of a tenant that takes time; raises Refusal."""
    largest: Callable[[str], int] = lambda _path: asgi.MEDIA_LIMIT
    """Path -> most bytes of a body."""
    uploads: int = body.UPLOAD_LIMIT
    """Most bytes of a body with a file."""
    decoded: Callable[[Mapping[str, Any]], Awaitable[int]] | None = None
    """Body -> bytes that its media take once they are decoded; raises Refusal."""
    metrics: Callable[[], bytes] | None = None
    """Content of `GET /metrics`, which needs no key; None for no such route."""


class Front:
    """ASGI middleware; all its methods belong to the event loop that serves."""

    def __init__(
        self,
        app: asgi.Application,
        *,
        life: Lifecycle,
        probe_key: str,
        routes: Mapping[str, Route] = ROUTES,
        guard: Guard | None = None,
        journal: Journal | None = None,
    ) -> None:
        self._app = app
        self.journal = journal or Journal("")
        self._routes = routes
        self._life = life
        self._probe_key = probe_key.encode()
        self._guard = guard or Guard()
        self._slots = self._guard.limits.slots(engine_slots=self._guard.engine_slots)
        self._turns = Turns()
        self._decoded = 0
        """Bytes of decoded media of all requests whose answer has not begun."""
        self._exchanges: set[Exchange] = set()
        self._empty = asyncio.Event()
        self._empty.set()
        self.refused: dict[str, int] = {reason.value: 0 for reason in openai.ENGINE_REASONS}

    @property
    def in_flight(self) -> int:
        """Number of requests whose response is not complete."""
        return len(self._exchanges)

    @property
    def queued(self) -> int:
        """Number of requests in flight that wait for a slot."""
        return self._slots.waiting

    async def __call__(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        """Serve one request, or the lifespan of the application."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            metrics = self._guard.metrics
            if metrics is not None and _asks_for_metrics(scope):
                # NB: in a thread, because endpoint pickers scrape every 50 ms.
                await asgi.respond(send, await asyncio.to_thread(metrics), kind=METRICS_KIND)
            else:
                await self._http(scope, receive, send)

    async def emptied(self, *, within: float) -> bool:
        """Wait until no request is in flight; return False after `within` seconds."""
        return await happens(self._empty, within=within)

    def abort(self) -> None:
        """End all requests in flight: the engine sees a disconnected client, the client gets the reason."""
        for exchange in self._exchanges:
            exchange.end(
                Refusal(
                    503,
                    "This replica shut down before the answer was complete. Retry.",
                    reason=Reason.DRAINING,
                    headers=CLOSE,
                )
            )

    def end_stalled(self, seconds: float) -> None:
        """End all requests in flight, on which the engine did not work for this time."""
        refusal = Refusal(
            504,
            f"The engine did not work on this request for {seconds:.0f} s.",
            reason=Reason.TIMEOUT,
        )
        for exchange in tuple(self._exchanges):
            self._end(exchange, refusal)

    def count(self, reason: Reason) -> None:
        """Count a refused request, also one that the application refused."""
        self.refused[reason] += 1

    async def _http(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        probe = self._is_probe(scope)
        try:
            route, client = self._check(scope, probe=probe)
        except Refusal as refusal:
            self._note(refusal)
            unread = asgi.lingering(send, receive)
            await refusal.answer(unread, path=scope["path"], close=self._life.leaving)
            return
        exchange = Exchange(receive, send, life=self._life, path=scope["path"])
        visit = None
        if route.computes and scope["method"] != _PREFLIGHT and not probe:
            visit = self.journal.arrive(scope["headers"])
        CURRENT.set(visit)
        self._exchanges.add(exchange)
        self._empty.clear()
        try:
            try:
                if route.body is not None and scope["method"] != _PREFLIGHT:
                    await self._compute(exchange, scope, route, client, probe=probe)
                else:
                    await exchange.run(self._app, _as_get(scope))
            except Refusal as refusal:
                self._end(exchange, refusal)
            await exchange.close()
        finally:
            exchange.begun()
            if visit is not None:
                self.journal.end(
                    visit,
                    status=exchange.status or _CLIENT_LEFT,
                    outcome=exchange.outcome,
                    streamed=exchange.streams_events,
                )
            self._exchanges.discard(exchange)
            if not self._exchanges:
                self._empty.set()

    def _check(self, scope: asgi.Scope, *, probe: bool) -> tuple[Route, Client]:
        """Return the route of the request's path, and its client; raise a Refusal if the head is wrong."""
        path, method = scope["path"], scope["method"]
        found = route(path, routes=self._routes)
        if found is None:
            raise no_route(path)
        allowed = (found.method, _HEAD) if found.method == "GET" else (found.method,)
        if method not in (*allowed, _PREFLIGHT):
            raise wrong_method(path, method, allowed=", ".join(allowed))
        if probe:
            return found, ANONYMOUS
        self._check_life()
        if self._guard.keys is None or found.open or method == _PREFLIGHT:
            return found, ANONYMOUS
        client = self._guard.keys.client(keys.in_headers(scope["headers"]))
        if client is None:
            raise unauthorized() if self._guard.keys.known else keys_unknown()
        return found, client

    def _check_life(self) -> None:
        if self._life.serves:
            return
        leaving = self._life.leaving
        message = "This replica is shutting down" if leaving else "The model is not ready yet"
        reason = Reason.DRAINING if leaving else Reason.LOADING
        raise Refusal(503, f"{message}. Retry later.", reason=reason, headers=CLOSE)

    async def _compute(
        self,
        exchange: Exchange,
        scope: asgi.Scope,
        route: Route,
        client: Client,
        *,
        probe: bool,
    ) -> None:
        """Check and admit the request, and let the application answer; a probe is always admitted."""
        seconds = self._guard.limits.timeout_seconds
        timer = None
        if seconds is not None and not probe:
            loop = asyncio.get_running_loop()
            timer = loop.call_later(seconds, self._end, exchange, answer_late(seconds))
        try:
            places = 1
            if route.body == body.JSON:
                scope, places = await self._read(exchange, scope, client, probe=probe)
            else:
                body.check_head(scope["headers"], kind=body.MULTIPART, limit=self._guard.uploads)
                if client.models is not None:
                    raise forbidden("of an upload")  # which the application alone reads
            if probe or not route.computes:
                await exchange.run(self._app, scope)
                return
            places = self._slots.fitting(places)
            waits = time.monotonic()
            try:
                await self._take_slots(exchange, places)
            finally:
                if (visit := CURRENT.get()) is not None:
                    visit.queue = time.monotonic() - waits
            try:
                await self._answer(exchange, scope, route)
            finally:
                self._slots.release(places)
        except asgi.DisconnectedError:
            pass
        finally:
            if timer is not None:
                timer.cancel()

    async def _answer(self, exchange: Exchange, scope: asgi.Scope, route: Route) -> None:
        """Let the application answer; it reads an upload itself, as it arrives."""
        if route.body == body.JSON:
            await exchange.run(self._app, scope)
            return
        loop, seconds = asyncio.get_running_loop(), self._guard.limits.body_seconds
        late = loop.call_later(seconds, self._end, exchange, body_late(seconds))
        exchange.read_at_most(self._guard.uploads, whole=late.cancel, over=self._over(exchange))
        try:
            await exchange.run(self._app, scope)
        finally:
            late.cancel()

    def _over(self, exchange: Exchange) -> Callable[[], None]:
        return lambda: self._end(exchange, body.too_large(limit=self._guard.uploads))

    async def _read(
        self, exchange: Exchange, scope: asgi.Scope, client: Client, *, probe: bool
    ) -> tuple[asgi.Scope, int]:
        """Read the body once, for the checks and for the application.

        Return the scope that fits the body, and the places that the request takes.
        """
        headers = scope["headers"]
        most = self._guard.largest(scope["path"])
        body.check_head(headers, limit=most)
        try:
            async with asyncio.timeout(self._guard.limits.body_seconds):
                raw = await asgi.read(exchange.receive, limit=most)
        except asgi.TooLargeError:
            raise body.too_large(limit=most) from None
        except TimeoutError:
            raise body_late(self._guard.limits.body_seconds) from None
        content = await self._parse(raw)
        if not probe:
            fields = self._fields(scope["path"], content, len(raw), client)
            if fields:
                raw = body.extended(raw, fields)
                scope = {**scope, "headers": body.with_length(headers, len(raw))}
        if self._guard.trial is not None and not probe and scope["path"] in openai.OUTPUT_LIMITS:
            await self._guard.trial(content, self._tenant(content, client))
        if self._guard.decoded is not None and not probe:
            self._hold_decoded(exchange, await self._guard.decoded(content))
        exchange.replay(raw)
        return scope, 1 if probe else self._guard.places(scope["path"], content)

    async def _parse(self, raw: bytes) -> dict[str, Any]:
        """Return the content of the body; large bodies take half of the time at most."""
        if len(raw) >= LARGE:
            return await self._turns.take(parse_in_steps(raw))
        content = body.parse(raw)
        bounded(content, size=len(raw))
        return content

    def _fields(
        self, path: str, content: Mapping[str, Any], size: int, client: Client
    ) -> Mapping[str, object]:
        """Return the fields to set in the body; Refusal if the client may not send it."""
        model = content.get("model")
        if not client.may_use(str(model)):
            raise forbidden(str(model))
        fields = {} if self._guard.rule is None else self._guard.rule(path, content, size)
        if self._guard.tenancy is None:
            return fields
        return {**fields, **self._guard.tenancy.fields(path, content, client)}

    def _tenant(self, content: Mapping[str, Any], client: Client) -> str:
        """Return what tells the tenant from others: a router sets the salt of its prefixes."""
        if self._guard.tenancy is not None:
            return client.tenant
        salt = content.get("cache_salt")
        return salt if isinstance(salt, str) else ""

    def _hold_decoded(self, exchange: Exchange, size: int) -> None:
        """Count decoded media until the answer begins; Refusal if there are too many."""
        if not size:
            return
        if self._decoded + size > _DECODED_BYTES:
            raise Refusal(
                429,
                "The images, audio and video of all requests take too much memory. Retry later.",
                reason=Reason.QUEUE_FULL,
            )
        self._decoded += size

        def release() -> None:
            self._decoded -= size

        exchange.on_begin(release)

    async def _take_slots(self, exchange: Exchange, places: int) -> None:
        """Take slots, or wait for them as long as the client is connected."""
        if exchange.over:
            raise asgi.DisconnectedError
        if self._slots.take(places):
            return
        try:
            waiter = self._slots.wait(places)
        except admission.QueueFullError:
            raise Refusal(
                429,
                "This replica is busy and its queue is full. Retry later.",
                reason=Reason.QUEUE_FULL,
            ) from None
        left = asyncio.ensure_future(exchange.left())
        admitted = False
        try:
            await asyncio.wait({waiter, left}, return_when=asyncio.FIRST_COMPLETED)
            admitted = waiter.done() and not left.done()
        finally:
            left.cancel()
            if not admitted:
                self._slots.give_up(waiter, places)
        if not admitted:
            raise asgi.DisconnectedError

    def _end(self, exchange: Exchange, refusal: Refusal) -> None:
        if not exchange.over:
            self._note(refusal)
            exchange.end(refusal)

    def _note(self, refusal: Refusal) -> None:
        if refusal.reason is not None:
            self.count(refusal.reason)

    def _is_probe(self, scope: asgi.Scope) -> bool:
        return any(
            name == PROBE_HEADER and hmac.compare_digest(value, self._probe_key)
            for name, value in scope["headers"]
        )


def _as_get(scope: asgi.Scope) -> asgi.Scope:
    """Return the scope for an application that knows no HEAD; the server sends no body."""
    return {**scope, "method": "GET"} if scope["method"] == _HEAD else scope


def _asks_for_metrics(scope: asgi.Scope) -> bool:
    return bool(scope["method"] == "GET" and scope["path"] == contract.METRICS_PATH)
