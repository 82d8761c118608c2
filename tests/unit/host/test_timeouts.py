"""Time limits of requests: for the wait, the first byte, the whole answer and the body."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from slipstream_runtime.web import asgi
from slipstream_runtime.web.openai import Reason
from tests.support.clients import Client, Held, answer, request
from tests.support.guards import Request, ask, error, guarded
from tests.support.loops import JumpingLoop


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
