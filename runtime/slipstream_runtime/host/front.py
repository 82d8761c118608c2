"""What stands between clients and vLLM's application, in the same process: no extra hop.

It lets only the API's routes through, refuses while the engine is not ready or drains, counts what is in flight,
and can end what is in flight in an orderly way. It reads no body and holds no response back.
"""

import asyncio
import hmac
import json
import re
from collections.abc import Collection
from typing import Final

from slipstream_runtime.host.lifecycle import Lifecycle
from slipstream_runtime.web import asgi

PROBE_HEADER: Final = b"x-slipstream-probe"
ROUTES: Final = frozenset(
    {
        "/health",
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/embeddings",
        "/v1/models",
        "/v1/responses",
        "/version",
    }
)
"""What clients of vLLM reach. Not among them: /invocations (completions past any API key), /tokenize, /metrics, LoRA
loading, and whatever else vLLM has or will have."""
_ONE_RESPONSE: Final = re.compile(r"/v1/responses/resp_[\w-]+(?:/cancel)?")
_RETRY_LOADING: Final = 5
_RETRY_DRAINING: Final = 1
_FINISH_SECONDS: Final = 1.0
"""How long the last words to an aborted client may take; a client that does not read gets none."""

UNAVAILABLE: Final = "ServiceUnavailableError"


def allowed(path: str, *, routes: Collection[str]) -> bool:
    """Whether clients may reach this path."""
    return path in routes or (
        "/v1/responses" in routes and _ONE_RESPONSE.fullmatch(path) is not None
    )


class Front:
    """ASGI middleware; all of its methods belong to the event loop that serves."""

    def __init__(
        self,
        app: asgi.Application,
        *,
        life: Lifecycle,
        probe_key: str,
        routes: Collection[str] = ROUTES,
    ) -> None:
        self._app = app
        self._routes = routes
        self._life = life
        self._probe_key = probe_key.encode()
        self._exchanges: set[_Exchange] = set()
        self._empty = asyncio.Event()
        self._empty.set()
        self.refused = {"draining": 0, "loading": 0}

    @property
    def in_flight(self) -> int:
        """Requests whose response is not complete."""
        return len(self._exchanges)

    async def __call__(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        """Serve one request, or the lifespan of the application."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)

    async def emptied(self, *, within: float) -> bool:
        """Wait until nothing is in flight; False if that takes longer than `within` seconds."""
        try:
            async with asyncio.timeout(within):
                await self._empty.wait()
        except TimeoutError:
            return False
        return True

    def abort(self) -> None:
        """End all that is in flight: the engine hears that the client left, the client hears why."""
        for exchange in self._exchanges:
            exchange.cut.set()

    async def _http(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        path: str = scope["path"]
        if not allowed(path, routes=self._routes):
            content = asgi.error(f"There is no route {path}", kind="NotFoundError", status=404)
            await asgi.respond_json(send, content, status=404)
            return
        if not self._life.ready and not self._is_probe(scope):
            await self._refuse(send)
            return
        exchange = _Exchange(receive, send, life=self._life)
        self._exchanges.add(exchange)
        self._empty.clear()
        try:
            await exchange.run(self._app, scope)
        finally:
            self._exchanges.discard(exchange)
            if not self._exchanges:
                self._empty.set()

    def _is_probe(self, scope: asgi.Scope) -> bool:
        return any(
            name == PROBE_HEADER and hmac.compare_digest(value, self._probe_key)
            for name, value in scope["headers"]
        )

    async def _refuse(self, send: asgi.Send) -> None:
        draining = self._life.draining
        self.refused["draining" if draining else "loading"] += 1
        message = "This replica is shutting down" if draining else "The model is not ready yet"
        await asgi.respond_json(
            send,
            asgi.error(f"{message}; try again", kind=UNAVAILABLE, status=503),
            status=503,
            headers={
                "retry-after": str(_RETRY_DRAINING if draining else _RETRY_LOADING),
                "connection": "close",
            },
        )


class _Exchange:
    """One request and its response, which can be cut short."""

    def __init__(self, receive: asgi.Receive, send: asgi.Send, *, life: Lifecycle) -> None:
        self._receive = receive
        self._send = send
        self._life = life
        self._status: int | None = None
        self._streams_events = False
        self._complete = False
        self.cut = asyncio.Event()

    async def run(self, app: asgi.Application, scope: asgi.Scope) -> None:
        """Let the application answer; if it is cut, answer in its place."""
        try:
            await app(scope, self.receive, self.send)
        except Exception:
            # NB: an application whose client left may fail as it likes; nobody is there to hear of it.
            if not self.cut.is_set():
                raise
        if self.cut.is_set() and not self._complete:
            async with asyncio.timeout(_FINISH_SECONDS):
                await self._last_words()

    async def receive(self) -> asgi.Message:
        """The client's next message, or its departure once the exchange is cut."""
        coming = asyncio.ensure_future(self._receive())
        cut = asyncio.ensure_future(self.cut.wait())
        try:
            await asyncio.wait({coming, cut}, return_when=asyncio.FIRST_COMPLETED)
            if self.cut.is_set():
                return {"type": "http.disconnect"}
            return await coming
        finally:
            coming.cancel()
            cut.cancel()

    async def send(self, message: asgi.Message) -> None:
        """Pass the application's message on; after the cut, nothing."""
        if self.cut.is_set():
            return
        if message["type"] == "http.response.start":
            self._begin(message)
        await self._send(message)
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self._complete = True

    def _begin(self, message: asgi.Message) -> None:
        headers = list(message.get("headers", ()))
        self._status = message["status"]
        self._streams_events = any(
            name.lower() == b"content-type" and value.startswith(b"text/event-stream")
            for name, value in headers
        )
        if self._life.draining:
            headers.append((b"connection", b"close"))
            message["headers"] = headers

    async def _last_words(self) -> None:
        content = asgi.error(
            "This replica shut down before the answer was complete",
            kind=UNAVAILABLE,
            status=503,
        )
        if self._status is None:
            headers = {"retry-after": str(_RETRY_DRAINING), "connection": "close"}
            await asgi.respond_json(self._send, content, status=503, headers=headers)
        elif self._streams_events:
            # NB: no [DONE] after it, which would call the truncated answer whole.
            event = b"data: " + json.dumps(content).encode() + b"\n\n"
            await self._send({"type": "http.response.body", "body": event, "more_body": False})
        else:
            raise ConnectionAbortedError("cut in the middle of a response that cannot say so")
