"""Engines that die, hang and refuse: safe requests are retried, all others get an error."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import pytest

from tests.support import backends
from tests.support.backends import Held, Peer, Received
from tests.support.routers import CHAT, routing, until


async def reset_after_three(peer: Peer, received: Received) -> None:
    await peer.stream()
    await peer.tokens(3)
    peer.reset()


async def end_after_three(peer: Peer, received: Received) -> None:
    """End the response cleanly, but not the stream of events."""
    await peer.stream()
    await peer.tokens(3)
    await peer.write(b"0\r\n\r\n")


async def half_a_body(peer: Peer, received: Received) -> None:
    await peer.head(content_length="1000")
    await peer.write(b'{"choices": ')
    peer.reset()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "fault", [backends.die, backends.status(503), backends.status(502)], ids=["dead", "503", "502"]
)
async def test_another_engine_answers_what_one_did_not(
    fault: backends.Behavior, stream: bool
) -> None:
    async with backends.running(2) as (bad, good), routing(bad, good) as router:
        bad.always = fault
        reply = await router.ask(stream=stream)

        assert reply.status == 200
        assert [len(bad.received), len(good.received)] == [1, 1]
        assert bad.received[0].body == good.received[0].body
        assert await router.metric("slipstream_router_retries_total") == 1


async def test_a_stream_without_an_event_is_sent_again() -> None:
    async with backends.running(2) as (bad, good), routing(bad, good) as router:
        bad.always = backends.die_between
        reply = await router.ask(stream=True)

        assert reply.events[-1] == "[DONE]"
        assert len(good.received) == 1


async def test_an_engine_that_fails_three_times_gets_no_more() -> None:
    async with backends.running(2) as (bad, good), routing(bad, good) as router:
        bad.always = backends.die
        replies = [await router.ask() for _ in range(8)]

        assert {reply.status for reply in replies} == {200}
        assert len(bad.received) == 3
        assert len(good.received) == 8
        assert await router.metric("slipstream_router_ejections_total") == 1


async def test_an_engine_that_refuses_connections_is_passed_over() -> None:
    async with backends.running(2) as (bad, good), routing(bad, good) as router:
        await bad.stop()
        assert (await router.ask()).status == 200
        assert await router.metric("slipstream_router_retries_total", reason="connect") == 1


@pytest.mark.parametrize(
    ("behavior", "times"),
    [(backends.die, 2), (backends.status(502), 3)],
    ids=["deaths", "refusals"],
)
async def test_no_request_reaches_a_third_engine_after_two_died_of_it_nor_a_fourth(
    behavior: backends.Behavior, times: int
) -> None:
    async with backends.running(4) as engines, routing(*engines) as router:
        for engine in engines:
            engine.always = behavior
        reply = await router.ask()

        assert reply.status == 502
        assert reply.error["type"] == "BadGatewayError"
        assert sum(len(engine.received) for engine in engines) == times


async def test_a_sole_engine_gets_the_request_again_after_a_pause() -> None:
    async with backends.running() as (engine,), routing(engine) as router:
        engine.script = [backends.die]
        assert (await router.ask()).status == 200
        assert len(engine.received) == 2


@pytest.mark.parametrize("fault", [reset_after_three, end_after_three])
async def test_a_stream_that_breaks_off_ends_with_an_error_and_is_not_sent_again(
    fault: backends.Behavior,
) -> None:
    async with backends.running(2) as engines, routing(*engines) as router:
        for engine in engines:
            engine.always = fault
        reply = await router.ask(stream=True)

        *tokens, error = reply.events
        assert len(tokens) == 3
        assert error["error"]["code"] == 502
        assert sum(len(engine.received) for engine in engines) == 1
        assert await router.metric("slipstream_router_broken_streams_total") == 1


async def test_the_connection_of_a_broken_stream_serves_the_next_request() -> None:
    async with backends.running() as (engine,), routing(engine) as router:
        engine.script = [reset_after_three]
        body = b'{"model": "m", "stream": true}'
        head = b"POST %s HTTP/1.1\r\nHost: r\r\nContent-Type: application/json\r\n" % CHAT.encode()
        request = head + b"Content-Length: %d\r\n\r\n" % len(body) + body
        reader, writer = await asyncio.open_connection("127.0.0.1", router.port)
        writer.write(request)
        broken = await reader.readuntil(b"\r\n0\r\n\r\n")
        assert b'"code":502' in broken
        assert b"[DONE]" not in broken
        writer.write(request)
        assert b"[DONE]" in await reader.readuntil(b"\r\n0\r\n\r\n")
        writer.close()


async def test_half_an_answer_is_502() -> None:
    async with backends.running(2) as engines, routing(*engines) as router:
        for engine in engines:
            engine.always = half_a_body
        reply = await router.ask()
        assert reply.status == 502
        assert reply.error["message"]
        assert sum(len(engine.received) for engine in engines) == 1


async def test_a_long_answer_that_breaks_off_breaks_off_for_the_client_too() -> None:
    async def long(peer: Peer, received: Received) -> None:
        await peer.head(content_length=str(10_000_000))
        await peer.write(b"x" * 5_000_000)
        peer.reset()

    async with backends.running() as (engine,), routing(engine) as router:
        engine.always = long
        reply = await router.ask()
        assert not reply.whole


async def test_500_is_passed_on_and_not_sent_again() -> None:
    async with backends.running(2) as engines, routing(*engines) as router:
        for engine in engines:
            engine.always = backends.status(500)
        reply = await router.ask()
        assert reply.status == 500
        assert sum(len(engine.received) for engine in engines) == 1


async def test_429_is_passed_on_with_its_retry_after() -> None:
    async with backends.running(2) as engines, routing(*engines) as router:
        for engine in engines:
            engine.always = backends.status(429, retry_after="17")
        reply = await router.ask()
        assert reply.status == 429
        assert reply.headers["retry-after"] == "17"
        assert sum(len(engine.received) for engine in engines) == 1


async def test_an_engine_that_never_begins_is_given_up_after_the_head_timeout() -> None:
    limits = {"headTimeout": 0.05}
    async with backends.running(2) as (bad, good), routing(bad, good, limits=limits) as router:
        bad.always = queued = Held()
        assert (await router.ask()).status == 200
        assert await router.metric("slipstream_router_retries_total", reason="timeout") == 1
        await until(lambda: queued.abandoned == 1)
        assert len(good.received) == 1


async def test_a_stream_that_stands_still_ends_after_the_idle_timeout() -> None:
    limits = {"idleTimeout": 0.05}
    async with backends.running() as (engine,), routing(engine, limits=limits) as router:
        engine.always = queued = Held(begun=2)
        reply = await router.ask(stream=True)
        *tokens, error = reply.events
        assert len(tokens) == 2
        assert error["error"]["code"] == 504
        await until(lambda: queued.abandoned == 1)


async def test_an_engine_that_does_not_accept_is_given_up_after_the_connect_timeout() -> None:
    limits = {"connectTimeout": 0.05}
    async with backends.running(2) as (bad, good), routing(bad, good, limits=limits) as router:
        await bad.stop()
        with _deaf(bad.port):
            assert (await router.ask()).status == 200
        assert await router.metric("slipstream_router_retries_total", reason="connect") == 1


async def test_the_whole_answer_must_come_within_the_timeout() -> None:
    async with backends.running() as (engine,), routing(engine, limits={"timeout": 0.05}) as router:
        engine.always = queued = Held()
        reply = await router.ask()
        assert reply.status == 504
        assert reply.error["type"] == "TimeoutError"
        await until(lambda: queued.abandoned == 1)


async def test_a_stream_past_the_timeout_ends_with_an_error() -> None:
    async with backends.running() as (engine,), routing(engine, limits={"timeout": 0.05}) as router:
        engine.always = Held(begun=1)
        reply = await router.ask(stream=True)
        assert reply.events[-1]["error"]["code"] == 504


async def test_retries_stay_within_their_budget() -> None:
    async with backends.running(2) as engines, routing(*engines) as router:
        for engine in engines:
            engine.always = backends.status(503)
        retries = router.chat.retries
        while retries.spend():
            pass
        reply = await router.ask()
        assert reply.status == 503
        assert reply.headers["retry-after"] == "1"
        assert sum(len(engine.received) for engine in engines) == 1


@contextlib.contextmanager
def _deaf(port: int) -> Iterator[None]:
    """Open a port whose backlog is full."""
    with socket.socket() as listening, contextlib.ExitStack() as stack:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", port))
        listening.listen(0)
        for _ in range(2):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        yield


async def test_an_engine_that_recovers_is_asked_again_by_one_request_first() -> None:
    async with backends.running() as (engine,), routing(engine) as router:
        [endpoint] = router.chat.pool
        for _ in range(3):
            router.chat.failed(endpoint)
        asking = [asyncio.create_task(router.ask(stream=True)) for _ in range(5)]
        await until(lambda: router.chat.queued == 5)
        engine.always = queued = Held(begun=1)

        endpoint._ejected_until = 0.0
        router.chat.dispatch()
        # NB: the first event of the one that tries it lets the others in, not the end of its stream.
        await until(lambda: queued.waiting == 5)
        queued.release.set()
        assert {(await each).status for each in asking} == {200}


async def test_the_first_event_may_take_longer_than_the_pause_between_two() -> None:
    limits = {"idleTimeout": 0.05}
    async with backends.running() as (engine,), routing(engine, limits=limits) as router:
        engine.always = queued = Held(begun=0)
        asking = asyncio.create_task(router.ask(stream=True))
        await until(lambda: queued.waiting == 1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(asking), 0.1)
        queued.release.set()
        assert (await asking).events == ["[DONE]"]


async def test_a_stream_that_begins_with_nothing_is_given_up_after_the_head_timeout() -> None:
    limits = {"headTimeout": 0.05}
    async with backends.running(2) as (bad, good), routing(bad, good, limits=limits) as router:
        bad.always = Held(begun=0)
        assert (await router.ask(stream=True)).events[-1] == "[DONE]"
        assert len(good.received) == 1


async def test_a_request_of_which_two_engines_died_is_sent_to_no_other_by_any_client() -> None:
    async with backends.running(5) as engines, routing(*engines) as router:

        async def fragile(peer: Peer, received: Received) -> None:
            await (backends.die if received.content.get("bomb") else backends.answer)(
                peer, received
            )

        for engine in engines:
            engine.always = fragile
        first = await router.ask(bomb=True, user="a")
        assert (first.status, sum(len(engine.received) for engine in engines)) == (502, 2)
        for user in ("a", "b"):
            again = await router.ask(bomb=True, user=user, stream=True)
            assert (again.status, "Change the request" in again.error["message"]) == (502, True)
        assert sum(len(engine.received) for engine in engines) == 2
        assert (await router.ask()).status == 200
        assert await router.metric("slipstream_router_engine_deaths_total") == 2
        name = "slipstream_router_refused_requests_total"
        assert await router.metric(name, reason="engine_died") == 2


async def test_a_stream_that_breaks_twice_is_not_begun_a_third_time() -> None:
    async with backends.running(3) as engines, routing(*engines) as router:
        for engine in engines:
            engine.always = reset_after_three
        for _ in range(2):
            assert "error" in (await router.ask(stream=True)).events[-1]
        assert (await router.ask(stream=True)).status == 502
        assert sum(len(engine.received) for engine in engines) == 2


async def test_requests_beside_the_one_that_killed_their_engine_are_answered_ever_after() -> None:
    async with backends.running(2) as (bad, good), routing(bad) as router:
        bad.always = held = Held(then=backends.die)
        asking = [asyncio.create_task(router.ask(user=str(number))) for number in range(5)]
        await until(lambda: held.waiting == 5)
        router.engines(bad, good)
        held.release.set()
        assert {reply.status for reply in await asyncio.gather(*asking)} == {200}
        assert await router.metric("slipstream_router_engine_deaths_total") == 1
        assert (await router.ask()).status == 200
        assert not router.chat._deaths.known
