"""The front's limits: who gets a place, who waits, who is turned away, and when an answer takes too long."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from slipstream_runtime.host import front
from slipstream_runtime.host.lifecycle import Phase
from slipstream_runtime.host.limits import Limits
from slipstream_runtime.web import asgi, keyring
from slipstream_runtime.web.openai import Reason
from slipstream_runtime.web.refusal import Refusal
from tests.support.clients import KEY, Held, life_in, request, turns
from tests.support.guards import Request, ask, error, guarded

PROBE = [(front.PROBE_HEADER, KEY.encode())]


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


@pytest.mark.parametrize("begin", [True, False])
async def test_decoded_media_are_bounded_until_the_answer_begins(*, begin: bool) -> None:
    async def decoded(content: Mapping[str, Any]) -> int:
        return 300 * 1024 * 1024

    app = Held(begin=begin)
    guard = guarded(app, decoded=decoded)
    first = Request(guard)
    if begin:
        await turns(lambda: bool(first.client.sent))
        second = Request(guard)
    else:
        refused = await ask(guard)
        assert (refused.status, refused.headers[b"retry-after"]) == (429, b"1")
        second = None
    app.release.set()
    assert (await first.answered()).status == 200
    if second is not None:
        assert (await second.answered()).status == 200
    assert (await ask(guard)).status == 200


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
    def refuse(path: str, content: Mapping[str, Any], size: int) -> Mapping[str, object]:
        raise Refusal(400, "no")

    app = Held(begin=False)
    guard = guarded(
        app,
        limits={"concurrency": 1, "queue": 0, "timeoutSeconds": 1},
        keys=keyring.mounted(tmp_path),
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
