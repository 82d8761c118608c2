"""The front's limits: who gets a place, who waits, who is turned away, and when an answer takes too long."""

import asyncio
import json
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from slipstream_runtime.host import front
from slipstream_runtime.host.lifecycle import Phase
from slipstream_runtime.host.limits import Limits
from slipstream_runtime.web import asgi
from slipstream_runtime.web.keys import Keys
from slipstream_runtime.web.openai import Reason
from slipstream_runtime.web.refusal import Refusal
from tests.support.clients import KEY, Client, Held, answer, life_in, request, turns
from tests.support.loops import JumpingLoop

PROBE = [(front.PROBE_HEADER, KEY.encode())]


def guarded(app: asgi.Application, *, limits: dict[str, Any] | None = None, **more: Any) -> Any:
    guard = front.Guard(limits=Limits.model_validate(limits or {}), **more)
    return front.Front(app, life=life_in(Phase.READY), probe_key=KEY, guard=guard)


class Request:
    """A request under way."""

    def __init__(self, guard: front.Front, scope: asgi.Scope | None = None, *parts: bytes) -> None:
        self.client = Client(*parts)
        scope = scope or request()
        self.task = asyncio.ensure_future(guard(scope, self.client.receive, self.client.send))

    async def answered(self) -> Client:
        await self.task
        return self.client


async def ask(guard: front.Front, scope: asgi.Scope | None = None, *parts: bytes) -> Client:
    return await Request(guard, scope, *parts).answered()


def error(client: Client) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(client.body)["error"]
    assert set(content) == {"message", "type", "param", "code"}
    assert content["code"] == client.status
    return content


async def test_as_many_run_as_may_and_as_many_wait_as_may_and_the_rest_gets_429() -> None:
    app = Held(begin=True)
    guard = guarded(app, limits={"concurrency": 2, "queue": 3})
    requests = [Request(guard) for _ in range(12)]
    await turns(lambda: sum(one.task.done() for one in requests) == 7)
    assert (guard.in_flight, guard.queued) == (5, 3)
    refused = [one.client for one in requests if one.task.done()]
    for client in refused:
        assert client.status == 429
        assert client.headers[b"retry-after"] == b"1"
        assert error(client)["type"] == "RateLimitError"
    assert not [one for one in requests[2:5] if one.client.sent]
    app.release.set()
    served = [await one.answered() for one in requests[:5]]
    assert all(client.status == 200 and client.complete for client in served)
    assert guard.refused[Reason.QUEUE_FULL] == 7
    assert (guard.in_flight, guard.queued) == (0, 0)


class Order:
    """An application whose requests end one by one, by name."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.most = 0
        self._running: dict[str, asyncio.Event] = {}

    async def __call__(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        name = json.loads(await asgi.read(receive))["name"]
        self.begun.append(name)
        self._running[name] = asyncio.Event()
        self.most = max(self.most, len(self._running))
        await self._running[name].wait()
        del self._running[name]
        await asgi.respond_json(send, {"name": name})

    def finish(self, which: int) -> None:
        if waiting := [event for event in self._running.values() if not event.is_set()]:
            waiting[which % len(waiting)].set()


@hypothesis.given(
    st.integers(1, 3),
    st.integers(0, 4),
    st.lists(st.sampled_from(["come", "finish", "go"]), max_size=40),
    st.integers(0, 10),
)
def test_requests_are_served_in_order_whatever_comes_and_goes(
    concurrency: int, queue: int, actions: Sequence[str], which: int
) -> None:
    asyncio.run(_play(concurrency, queue, actions, which))


async def _play(concurrency: int, queue: int, actions: Sequence[str], which: int) -> None:
    app = Order()
    guard = guarded(app, limits={"concurrency": concurrency, "queue": queue})
    requests: dict[str, Request] = {}
    gone: set[str] = set()
    for number, action in enumerate(actions):
        waiting = [n for n, one in requests.items() if not one.task.done() and n not in app.begun]
        if action == "come":
            requests[str(number)] = Request(guard, None, json.dumps({"name": str(number)}).encode())
        elif action == "finish":
            app.finish(which)
        elif waiting:
            name = waiting[which % len(waiting)]
            gone.add(name)
            requests[name].client.gone.set()
        for _ in range(8):
            await asyncio.sleep(0)
        assert guard.queued <= queue
        assert guard.in_flight - guard.queued <= concurrency
    while not all(one.task.done() for one in requests.values()):
        app.finish(0)
        await asyncio.sleep(0)
    assert app.most <= concurrency
    assert app.begun == sorted(app.begun, key=int)
    for name, one in requests.items():
        if name in gone:
            assert not one.client.sent
            assert name not in app.begun
        else:
            assert one.client.status == (200 if name in app.begun else 429)
    assert (guard.in_flight, guard.queued) == (0, 0)


async def test_a_client_that_leaves_the_queue_makes_room_in_it() -> None:
    app = Held(begin=False)
    guard = guarded(app, limits={"concurrency": 1, "queue": 1})
    running, leaving = Request(guard), Request(guard)
    await turns(lambda: guard.queued == 1)
    leaving.client.gone.set()
    await leaving.task
    assert not leaving.client.sent
    waiting = Request(guard)
    await turns(lambda: guard.queued == 1)
    app.release.set()
    assert (await running.answered()).status == (await waiting.answered()).status == 200
    assert app.left == 0


async def test_a_client_that_leaves_while_it_runs_frees_its_place() -> None:
    app = Held(begin=True)
    guard = guarded(app, limits={"concurrency": 1, "queue": 1})
    running, waiting = Request(guard), Request(guard)
    await turns(lambda: guard.queued == 1)
    running.client.gone.set()
    await running.task
    await turns(lambda: guard.queued == 0 and bool(waiting.client.sent))
    app.release.set()
    assert (await waiting.answered()).complete
    assert app.left == 1


async def test_a_failing_application_frees_its_place() -> None:
    async def fail(scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        raise ValueError("mine")

    guard = guarded(fail, limits={"concurrency": 1, "queue": 0})
    for _ in range(2):
        with pytest.raises(ValueError, match="mine"):
            await ask(guard)


@pytest.mark.parametrize("path", ["/health", "/version", "/v1/models"])
async def test_what_does_not_compute_never_waits(path: str) -> None:
    app = Held(begin=False)
    guard = guarded(app, limits={"concurrency": 1, "queue": 0})
    running = Request(guard)
    await turns(lambda: guard.in_flight == 1)
    other = Request(guard, request(path, method="GET"))
    await turns(lambda: guard.in_flight == 2)
    app.release.set()
    assert (await other.answered()).status == (await running.answered()).status == 200


async def test_the_probe_needs_no_place_no_key_and_keeps_no_limit(tmp_path: Path) -> None:
    def refuse(path: str, content: Mapping[str, Any]) -> Mapping[str, object]:
        raise Refusal(400, "no")

    app = Held(begin=False)
    guard = guarded(
        app,
        limits={"concurrency": 1, "queue": 0, "timeoutSeconds": 1},
        keys=Keys(tmp_path, clock=lambda: 0.0),
        rule=refuse,
    )
    probe = Request(guard, request(headers=PROBE))
    await turns(lambda: guard.in_flight == 1)
    second = Request(guard, request(headers=PROBE))
    await turns(lambda: guard.in_flight == 2)
    app.release.set()
    assert (await probe.answered()).status == (await second.answered()).status == 200
    assert (await ask(guard, request(headers=PROBE), b"[]")).status == 400


async def test_a_drain_lets_those_who_wait_have_their_turn() -> None:
    app = Held(begin=False)
    life = life_in(Phase.READY)
    limits = Limits(concurrency=1, queue=1)
    guard = front.Front(app, life=life, probe_key=KEY, guard=front.Guard(limits=limits))
    running, waiting = Request(guard), Request(guard)
    await turns(lambda: guard.queued == 1)
    life.enter(Phase.DRAINING)
    assert (await ask(guard)).status == 503
    app.release.set()
    assert (await running.answered()).status == (await waiting.answered()).status == 200
    assert await guard.emptied(within=0)


async def test_an_abort_tells_those_who_wait() -> None:
    app = Held(begin=False)
    guard = guarded(app, limits={"concurrency": 1, "queue": 1})
    running, waiting = Request(guard), Request(guard)
    await turns(lambda: guard.queued == 1)
    guard.abort()
    assert (await waiting.answered()).status == (await running.answered()).status == 503
    assert app.left == 1


def in_jumping_time(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        runner.run(test())


def test_an_answer_that_does_not_begin_in_time_is_504_and_the_engine_is_freed() -> None:
    async def test() -> None:
        app = Held(begin=False)
        guard = guarded(app, limits={"timeoutSeconds": 2.5})
        client = await ask(guard)
        assert asyncio.get_running_loop().time() == 2.5
        assert client.status == 504
        assert error(client)["message"] == "The answer was not complete within 2.5 s."
        assert app.left == 1
        assert guard.refused[Reason.TIMEOUT] == 1
        assert guard.in_flight == 0

    in_jumping_time(test)


def test_a_stream_that_is_not_complete_in_time_ends_with_an_error_and_without_done() -> None:
    async def test() -> None:
        app = Held(begin=True)
        client = await ask(guarded(app, limits={"timeoutSeconds": 1}))
        assert client.status == 200
        events = client.body.decode().split("\n\n")
        assert events[0] == "data: 1"
        assert json.loads(events[1].removeprefix("data: "))["error"]["code"] == 504
        assert events[2:] == [""]
        assert client.complete
        assert app.left == 1

    in_jumping_time(test)


def test_the_wait_for_a_place_counts() -> None:
    async def test() -> None:
        app = Held(begin=False)
        guard = guarded(app, limits={"concurrency": 1, "queue": 1, "timeoutSeconds": 3})
        running = Request(guard)
        await asyncio.sleep(1)
        waiting = Request(guard)
        assert (await running.answered()).status == 504
        assert (await waiting.answered()).status == 504
        assert asyncio.get_running_loop().time() == 4
        assert app.left == 2
        assert guard.refused[Reason.TIMEOUT] == 2

    in_jumping_time(test)


def test_an_answer_in_time_is_left_alone() -> None:
    async def test() -> None:
        guard = guarded(answer, limits={"timeoutSeconds": 1})
        client = await ask(guard)
        await asyncio.sleep(2)
        assert client.status == 200
        assert len(client.sent) == 2
        assert guard.refused[Reason.TIMEOUT] == 0

    in_jumping_time(test)


class Silent(Client):
    """A client that never sends the end of its body."""

    async def receive(self) -> asgi.Message:
        if self._parts:
            return {"type": "http.request", "body": self._parts.pop(0), "more_body": True}
        await self.gone.wait()
        return {"type": "http.disconnect"}


@pytest.mark.parametrize(
    ("limits", "status", "seconds"), [({}, 408, 60.0), ({"timeoutSeconds": 5}, 504, 5.0)]
)
def test_a_body_that_does_not_arrive_holds_no_place(
    limits: dict[str, Any], status: int, seconds: float
) -> None:
    async def test() -> None:
        guard = guarded(answer, limits={"concurrency": 1, "queue": 0, **limits})
        client = Silent(b"{")
        answered = asyncio.ensure_future(guard(request(), client.receive, client.send))
        await asyncio.sleep(1)
        assert (await ask(guard)).status == 200
        await answered
        assert client.status == status
        assert asyncio.get_running_loop().time() == seconds
        error(client)

    in_jumping_time(test)


async def test_a_client_that_leaves_in_its_body_is_forgotten() -> None:
    guard = guarded(answer)
    client = Silent(b"{")
    client.gone.set()
    await guard(request(), client.receive, client.send)
    assert not client.sent
    assert guard.in_flight == 0


async def echo(scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
    content = {
        "body": (await asgi.read(receive)).decode(),
        "headers": [[name.decode(), value.decode()] for name, value in scope["headers"]],
    }
    await asgi.respond_json(send, content)


async def test_a_body_in_parts_reaches_the_application_as_it_was_sent() -> None:
    client = await ask(guarded(echo), None, b' {"a":', b" [1", b"]} ")
    assert json.loads(client.body)["body"] == ' {"a": [1]} '


async def test_a_rule_sets_fields_and_the_length_follows() -> None:
    def rule(path: str, content: Mapping[str, Any]) -> Mapping[str, object]:
        assert (path, content) == ("/v1/chat/completions", {"a": 1})
        return {"b": 2}

    scope = request(headers=[(b"content-length", b"7")])
    found = json.loads((await ask(guarded(echo, rule=rule), scope, b'{"a":1}')).body)
    assert found["body"] == '{"a":1,"b": 2}'
    assert ["content-length", "14"] in found["headers"]


async def test_a_rule_that_is_broken_is_told() -> None:
    def rule(path: str, content: Mapping[str, Any]) -> Mapping[str, object]:
        raise Refusal(400, "too many", reason=Reason.OUTPUT_TOO_LONG, param="max_tokens")

    guard = guarded(answer, rule=rule)
    client = await ask(guard)
    assert error(client)["param"] == "max_tokens"
    assert guard.refused[Reason.OUTPUT_TOO_LONG] == 1


@pytest.mark.parametrize(
    ("headers", "parts", "status", "reason"),
    [
        ([(b"content-length", b"99999999")], [b"{}"], 413, Reason.TOO_LARGE),
        ([], [b'{"a":"' + b"a" * 9_000_000, b"a" * 9_000_000, b'"}'], 413, Reason.TOO_LARGE),
        ([(b"content-type", b"text/plain")], [b"{}"], 415, Reason.MALFORMED),
        ([], [b"nonsense"], 400, Reason.MALFORMED),
        ([], [b"[" * 10_000], 400, Reason.MALFORMED),
    ],
)
async def test_malformed_requests_never_reach_the_engine(
    headers: list[tuple[bytes, bytes]], parts: list[bytes], status: int, reason: Reason
) -> None:
    async def never(scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        raise AssertionError

    guard = guarded(never)
    client = await ask(guard, request(headers=headers), *parts)
    assert client.status == status
    error(client)
    assert guard.refused[reason] == 1


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        ("/v1/chat/completions", "POST", 401),
        ("/v1/completions", "POST", 401),
        ("/v1/embeddings", "POST", 401),
        ("/v1/responses", "POST", 401),
        ("/v1/responses/resp_1", "GET", 401),
        ("/v1/models", "GET", 401),
        ("/health", "GET", 200),
        ("/version", "GET", 200),
        ("/v1/models", "OPTIONS", 200),
    ],
)
async def test_without_a_key_only_health_version_and_preflights_are_answered(
    tmp_path: Path, path: str, method: str, status: int
) -> None:
    (tmp_path / "team").write_text("good")
    guard = guarded(answer, keys=Keys(tmp_path, clock=lambda: 0.0))
    for headers in ([], [(b"authorization", b"Bearer bad")]):
        client = await ask(guard, request(path, method=method, headers=headers))
        assert client.status == status
        if status == 401:
            assert client.headers[b"www-authenticate"] == b"Bearer"
            assert error(client)["type"] == "AuthenticationError"
    known = request(path, method=method, headers=[(b"authorization", b"Bearer good")])
    assert (await ask(guard, known)).status == 200
    assert guard.refused[Reason.UNAUTHORIZED] == (2 if status == 401 else 0)
