"""The front: which requests reach vLLM, what is counted, and how a drain ends what is in flight."""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from slipstream_runtime.host import front
from slipstream_runtime.host.lifecycle import Lifecycle, Phase
from slipstream_runtime.web import asgi

KEY = "key"
CHAT = "/v1/chat/completions"
SSE = [(b"content-type", b"text/event-stream; charset=utf-8")]


class Client:
    """One request as a server would pass it to the application."""

    def __init__(self) -> None:
        self.sent: list[asgi.Message] = []
        self.gone = asyncio.Event()
        self._asked = False

    async def receive(self) -> asgi.Message:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"{}", "more_body": False}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: asgi.Message) -> None:
        self.sent.append(message)

    @property
    def status(self) -> int:
        status: int = self.sent[0]["status"]
        return status

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.sent[0]["headers"])

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent[1:])

    @property
    def complete(self) -> bool:
        return self.sent[-1]["type"] == "http.response.body" and not self.sent[-1].get("more_body")


def request(path: str = CHAT, *, headers: list[tuple[bytes, bytes]] | None = None) -> asgi.Scope:
    return {"type": "http", "method": "POST", "path": path, "headers": headers or []}


def life_in(phase: Phase) -> Lifecycle:
    life = Lifecycle(clock=lambda: 0.0)
    for step in Phase:
        if step is Phase.STARTING:
            continue
        life.enter(step)
        if step is phase:
            break
    return life


async def answer(scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
    await receive()
    await asgi.respond_json(send, {"ok": True})


class Held:
    """An application that answers when told, and notices that its client left, as vLLM's does."""

    def __init__(self, *, begin: bool, headers: list[tuple[bytes, bytes]] | None = None) -> None:
        self.release = asyncio.Event()
        self.left = 0
        self._begin = begin
        self._headers = headers or SSE

    async def __call__(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        await receive()
        if self._begin:
            await send({"type": "http.response.start", "status": 200, "headers": self._headers})
            await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
        departure = asyncio.ensure_future(receive())
        release = asyncio.ensure_future(self.release.wait())
        await asyncio.wait({departure, release}, return_when=asyncio.FIRST_COMPLETED)
        if departure.done() and departure.result()["type"] == "http.disconnect":
            self.left += 1
            release.cancel()
            await self._say(send)
            return
        departure.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await departure
        await self._say(send)

    async def _say(self, send: asgi.Send) -> None:
        if not self._begin:
            await asgi.respond_json(send, {"ok": True})
        else:
            body = b"data: [DONE]\n\n"
            await send({"type": "http.response.body", "body": body, "more_body": False})


async def turns(condition: Callable[[], bool]) -> None:
    """Let the loop turn until the condition holds."""
    async with asyncio.timeout(1):
        while not condition():  # noqa: ASYNC110 (turns of the loop, not time)
            await asyncio.sleep(0)


async def ask(guard: front.Front, scope: asgi.Scope | None = None) -> Client:
    client = Client()
    await guard(scope or request(), client.receive, client.send)
    return client


def guarded(app: asgi.Application, phase: Phase = Phase.READY) -> tuple[front.Front, Lifecycle]:
    life = life_in(phase)
    return front.Front(app, life=life, probe_key=KEY), life


async def test_an_engine_opens_its_own_routes_and_no_others() -> None:
    guard = front.Front(
        answer, life=life_in(Phase.READY), probe_key=KEY, routes={"/classify", "/health"}
    )
    assert (await ask(guard, request("/classify"))).status == 200
    for path in (CHAT, "/v1/responses/resp_1", "/classify/"):
        assert (await ask(guard, request(path))).status == 404


@pytest.mark.parametrize(
    ("path", "reached"),
    [
        ("/v1/chat/completions", True),
        ("/v1/completions", True),
        ("/v1/embeddings", True),
        ("/v1/models", True),
        ("/v1/responses", True),
        ("/v1/responses/resp_0a-b", True),
        ("/v1/responses/resp_0a/cancel", True),
        ("/health", True),
        ("/version", True),
        ("/", False),
        ("/invocations", False),
        ("/tokenize", False),
        ("/detokenize", False),
        ("/metrics", False),
        ("/load", False),
        ("/ping", False),
        ("/docs", False),
        ("/openapi.json", False),
        ("/v1/models/", False),
        ("/v1/responses/render", False),
        ("/v1/responses/resp_0a/../../../tokenize", False),
        ("/v1/chat/completions/render", False),
        ("/v1/load_lora_adapter", False),
        ("/scale_elastic_ep", False),
        ("/readyz", False),
    ],
)
async def test_only_the_routes_of_the_api_reach_vllm(path: str, reached: bool) -> None:
    guard, _ = guarded(answer)
    client = await ask(guard, request(path))
    assert client.status == (200 if reached else 404)
    if not reached:
        assert json.loads(client.body)["error"]["code"] == 404


@pytest.mark.parametrize(
    ("phase", "retry", "reason"),
    [(Phase.PROBING, b"5", "loading"), (Phase.DRAINING, b"1", "draining")],
)
async def test_requests_are_refused_while_not_ready(
    phase: Phase, retry: bytes, reason: str
) -> None:
    guard, _ = guarded(answer, phase)
    client = await ask(guard)
    assert client.status == 503
    assert client.headers[b"retry-after"] == retry
    assert client.headers[b"connection"] == b"close"
    error = json.loads(client.body)["error"]
    assert (error["code"], error["type"]) == (503, "ServiceUnavailableError")
    assert guard.refused[reason] == 1


async def test_only_the_engines_own_probe_passes_before_ready() -> None:
    guard, _ = guarded(answer, Phase.PROBING)
    for key, status in ((KEY, 200), ("other", 503)):
        scope = request(headers=[(front.PROBE_HEADER, key.encode())])
        assert (await ask(guard, scope)).status == status


async def test_requests_are_in_flight_until_their_response_is_complete() -> None:
    app = Held(begin=True)
    guard, _ = guarded(app)
    asked = [asyncio.create_task(ask(guard)) for _ in range(3)]
    await turns(lambda: guard.in_flight == 3)
    assert not await guard.emptied(within=0)
    app.release.set()
    clients = await asyncio.gather(*asked)
    assert guard.in_flight == 0
    assert await guard.emptied(within=0)
    assert all(client.complete for client in clients)


async def test_a_failing_application_is_out_of_flight_and_its_error_goes_on() -> None:
    async def fail(scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        raise ValueError("mine")

    guard, _ = guarded(fail)
    with pytest.raises(ValueError, match="mine"):
        await ask(guard)
    assert guard.in_flight == 0


async def test_a_drain_lets_streams_finish_and_sends_their_clients_away() -> None:
    app = Held(begin=False)
    guard, life = guarded(app)
    asked = asyncio.create_task(ask(guard))
    await turns(lambda: guard.in_flight == 1)
    life.drain()
    assert (await ask(guard)).status == 503
    app.release.set()
    client = await asked
    assert client.status == 200
    assert client.headers[b"connection"] == b"close"
    assert app.left == 0


async def test_responses_keep_their_connection_while_ready() -> None:
    guard, _ = guarded(answer)
    assert b"connection" not in (await ask(guard)).headers


async def aborted(app: Held) -> Client:
    guard, life = guarded(app)
    client = Client()
    asked = asyncio.create_task(_quietly(guard(request(), client.receive, client.send)))
    await turns(lambda: guard.in_flight == 1)
    for _ in range(10):
        await asyncio.sleep(0)
    life.drain()
    guard.abort()
    assert await guard.emptied(within=1)
    await asked
    assert app.left == 1
    return client


async def _quietly(running: Awaitable[Any]) -> None:
    with contextlib.suppress(ConnectionAbortedError):
        await running


async def test_an_aborted_stream_ends_with_an_error_and_without_done() -> None:
    client = await aborted(Held(begin=True))
    events = client.body.decode().split("\n\n")
    assert events[0] == "data: 1"
    assert json.loads(events[1].removeprefix("data: "))["error"]["code"] == 503
    assert b"[DONE]" not in client.body
    assert client.complete


async def test_an_aborted_request_without_an_answer_gets_503() -> None:
    client = await aborted(Held(begin=False))
    assert client.status == 503
    assert client.headers[b"connection"] == b"close"
    assert client.complete


async def test_an_aborted_answer_that_is_no_stream_is_left_incomplete() -> None:
    kind = [(b"content-type", b"application/json"), (b"content-length", b"99")]
    client = await aborted(Held(begin=True, headers=kind))
    assert not client.complete


async def test_a_client_that_leaves_is_noticed_by_the_application() -> None:
    app = Held(begin=True)
    guard, _ = guarded(app)
    client = Client()
    asked = asyncio.create_task(guard(request(), client.receive, client.send))
    await turns(lambda: guard.in_flight == 1)
    client.gone.set()
    await asked
    assert app.left == 1
    assert guard.in_flight == 0


async def test_the_lifespan_passes_and_websockets_do_not() -> None:
    seen: list[str] = []

    async def note(scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        seen.append(scope["type"])

    guard, _ = guarded(note, Phase.STARTING)
    client = Client()
    for kind in ("lifespan", "websocket"):
        await guard({"type": kind, "path": CHAT}, client.receive, client.send)
    assert seen == ["lifespan"]
