"""Clients that disconnect, read slowly or hold connections open: engines stop, and memory is bounded."""

import asyncio
import contextlib
import json
import resource
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any
from unittest.mock import Mock

import pytest

from slipstream_runtime.web import asgi
from tests.support import backends
from tests.support.backends import Held, Peer, Received
from tests.support.routers import CHAT, Running, routing, until

HEAD = f"POST {CHAT} HTTP/1.1\r\nHost: router\r\nContent-Type: application/json\r\n"
CANCELLED = "slipstream_router_cancelled_requests_total"
IDLE = 10_000
SECONDS = 60.0
IDLE_CLIENT = """
import resource, socket, sys
_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
address, count = ("127.0.0.1", int(sys.argv[1])), int(sys.argv[2])
sources = [(f"127.0.0.{number}", 0) for number in range(2, 6)]
held = [socket.create_connection(address, source_address=sources[n % 4]) for n in range(count)]
print("open", flush=True)
sys.stdin.read()
"""


def request(**fields: Any) -> bytes:
    body = json.dumps({"model": "m", **fields}).encode()
    return f"{HEAD}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def connect(
    router: Running, **options: Any
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", router.port, **options)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_before_the_answer_ends_its_engines_work(stream: bool) -> None:
    async with backends.running() as (engine,), routing(engine) as router:
        engine.always = held = Held()
        _, writer = await connect(router)
        writer.write(request(stream=stream))
        await until(lambda: held.waiting == 1)
        writer.close()
        await until(lambda: held.abandoned == 1)
        await until(router.settled)
        assert await router.metric(CANCELLED, phase="answering") == 1


async def test_a_client_that_leaves_a_stream_ends_its_engines_work() -> None:
    async with backends.running() as (engine,), routing(engine) as router:
        engine.always = held = Held(begun=2)
        reader, writer = await connect(router)
        writer.write(request(stream=True))
        await reader.readuntil(b"1 ")
        writer.close()
        await until(lambda: held.abandoned == 1)
        await until(router.settled)
        assert await router.metric(CANCELLED, phase="streaming") == 1


async def test_the_connection_of_an_abandoned_request_is_not_used_again() -> None:
    async with backends.running() as (engine,), routing(engine) as router:
        engine.script = [held := Held(begun=1)]
        reader, writer = await connect(router)
        writer.write(request(stream=True))
        await reader.readuntil(b"0 ")
        writer.close()
        await until(lambda: held.abandoned == 1)
        assert (await router.ask(stream=True)).events[-1] == "[DONE]"


async def test_a_client_that_does_not_read_slows_its_engine_down_and_is_cut() -> None:
    size = 128 * 1024 * 1024
    sent = 0

    async def flood(peer: Peer, received: Received) -> None:
        nonlocal sent
        await peer.stream()
        piece = b"data: " + b"x" * 65_000 + b"\n\n"
        while sent < size:
            await peer.chunk(piece)
            sent += len(piece)

    limits = {"idleTimeout": 0.3}
    async with backends.running() as (engine,), routing(engine, limits=limits) as router:
        engine.always = flood
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with socket.create_connection(("127.0.0.1", router.port)) as client:
            client.sendall(request(stream=True))
            await until(lambda: sent > 0)
            await until(router.settled)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert sent < size / 4
        assert grown < 32 * 1024


async def test_a_head_that_comes_too_slowly_is_ended() -> None:
    async with routing(head_seconds=0.05) as router:
        answer = await router.raw(HEAD.encode())
        assert answer.startswith(b"HTTP/1.1 408")


async def test_a_second_head_that_comes_too_slowly_is_ended_too() -> None:
    async with backends.running() as (engine,), routing(engine, head_seconds=0.05) as router:
        reader, writer = await connect(router)
        writer.write(request())
        await reader.readuntil(b'"total_tokens": 10}}')
        writer.write(HEAD.encode())
        assert (await reader.read()).startswith(b"HTTP/1.1 408")
        writer.close()


async def test_a_body_that_comes_right_after_its_head_is_no_second_head() -> None:
    async with routing() as router:
        connection = router.router._listener()
        transport = Mock(asyncio.Transport)
        transport.get_extra_info.return_value = None
        connection.connection_made(transport)
        await until(lambda: connection._waiter is not None)
        connection.data_received(HEAD.encode() + b"Content-Length: 2\r\n\r\n")
        connection.data_received(b"{}")  # uvloop reads on before others have their turn
        assert connection._head_timer is None
        connection.connection_lost(None)


async def test_a_body_that_comes_too_slowly_is_408() -> None:
    async with routing(body_seconds=0.05) as router:
        answer = await router.raw(HEAD.encode() + b"Content-Length: 10\r\n\r\n{")
        assert answer.startswith(b"HTTP/1.1 408")
        assert b'"type":"TimeoutError"' in answer


async def test_a_service_may_allow_more_time_for_a_body() -> None:
    async with (
        backends.running() as (engine,),
        routing(engine, body_seconds=0.05, limits={"bodyTimeout": 30.0}) as router,
    ):
        reader, writer = await connect(router)
        head, body = request().split(b"\r\n\r\n", 1)
        writer.write(head + b"\r\n\r\n" + body[:-1])
        asyncio.get_running_loop().call_later(0.2, writer.write, body[-1:])
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        writer.close()


RESET = b"reset"


async def rest_of(reader: asyncio.StreamReader) -> bytes:
    """Read to the end; a client that keeps sending may lose the answer with the connection."""
    try:
        return await reader.read()
    except ConnectionError:
        return RESET


DRIPPED = {
    "head": ({"head_seconds": 0.2}, HEAD.encode() + b"X: " + b"x" * 10_000),
    "body": ({"body_seconds": 0.2}, f"{HEAD}Content-Length: 10000\r\n\r\n".encode() + b"x" * 9_999),
}


@pytest.mark.parametrize(("deadline", "sent"), DRIPPED.values(), ids=DRIPPED)
async def test_what_drips_in_byte_by_byte_has_no_more_time(
    deadline: dict[str, float], sent: bytes
) -> None:
    async with backends.running() as (engine,), routing(engine, **deadline) as router:
        slow = [await connect(router) for _ in range(100)]
        answers = [asyncio.create_task(rest_of(reader)) for reader, _ in slow]
        start, rest = sent[: len(HEAD) + 30], sent[len(HEAD) + 30 :]
        for _, writer in slow:
            writer.write(start)
        began = asyncio.get_running_loop().time()
        dripped = 0
        while not all(answer.done() for answer in answers):
            for _, writer in slow:
                if not writer.is_closing():
                    writer.write(rest[dripped : dripped + 1])
            dripped += 1
            assert (await router.ask()).status == 200
        assert asyncio.get_running_loop().time() - began < 5.0
        assert dripped > 5
        assert {(await answer)[:12] for answer in answers} <= {b"HTTP/1.1 408", RESET}
        assert len(engine.received) == dripped
        for _, writer in slow:
            writer.close()


async def test_connections_past_the_bound_of_an_address_are_refused_and_others_served() -> None:
    async with backends.running() as (engine,), routing(engine, connections=10) as router:
        engine.always = held = Held()
        busy = [await connect(router) for _ in range(5)]
        for _, each in busy:
            each.write(request())
        await until(lambda: held.waiting == 5)
        reader, writer = await connect(router)
        assert (await reader.read()).startswith(b"HTTP/1.1 503")
        other, beside = await connect(router, local_addr=("127.0.0.2", 0))
        beside.write(request())
        await until(lambda: held.waiting == 6)
        held.release.set()
        assert (await other.readline()).startswith(b"HTTP/1.1 200")
        for _, each in [*busy, (reader, writer), (other, beside)]:
            each.close()


async def test_the_connections_that_are_idle_for_longest_make_room_for_new_ones() -> None:
    async with backends.running() as (engine,), routing(engine, connections=4) as router:
        sources = [("127.0.0.2", 0)] * 2 + [("127.0.0.3", 0)] * 2
        idle = [await connect(router, local_addr=source) for source in sources]
        for reader, writer in idle:
            writer.write(b"GET /health HTTP/1.1\r\nHost: r\r\n\r\n")
            await reader.readuntil(b"\r\n\r\n")
        for _ in range(3):
            reader, writer = await connect(router)
            writer.write(request())
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
            writer.close()
        ended = [asyncio.ensure_future(reader.read()) for reader, _ in idle]
        await until(lambda: any(each.done() for each in ended))
        assert not ended[-1].done()
        for (_, writer), each in zip(idle, ended, strict=True):
            each.cancel()
            writer.close()


async def test_a_body_over_the_limit_is_413_before_it_is_read() -> None:
    async with routing() as router:
        size = asgi.MEDIA_LIMIT + 1
        answer = await router.raw(f"{HEAD}Content-Length: {size}\r\n\r\n".encode())
        assert answer.startswith(b"HTTP/1.1 413")


async def test_a_chunked_body_over_the_limit_is_413_while_it_is_read() -> None:
    async with routing() as router:
        piece = b"100000\r\n" + b"x" * 0x100000 + b"\r\n"
        head = f"{HEAD}Transfer-Encoding: chunked\r\n\r\n".encode()
        answer = await router.raw(head + piece * 65)
        assert answer.startswith(b"HTTP/1.1 413")


async def test_a_compressed_body_is_415() -> None:
    async with routing() as router:
        reply = await router.ask(raw=b"\x1f\x8b" + b"x" * 100, headers={"content-encoding": "gzip"})
        assert reply.status == 415


async def test_a_client_that_asks_before_it_sends_its_body_is_told_to_go_on() -> None:
    async with backends.running() as (engine,), routing(engine) as router:
        reader, writer = await connect(router)
        body = b'{"model": "m"}'
        head = f"{HEAD}Expect: 100-continue\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode())
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(body)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        writer.close()


@pytest.fixture
def many_files() -> Iterator[None]:
    """Raise this process's limit of open files to the hard limit."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@contextlib.asynccontextmanager
async def connected_idle(port: int, count: int) -> AsyncIterator[None]:
    """Run another process that holds idle connections."""
    command = (sys.executable, "-c", IDLE_CLIENT, str(port), str(count))
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(SECONDS):
            assert await process.stdout.readline() == b"open\n"
        yield
    finally:
        await process.communicate(b"")  # closes its input


@pytest.mark.usefixtures("many_files")
async def test_ten_thousand_idle_connections_cost_little_and_disturb_nobody() -> None:
    async with (
        backends.running() as (engine,),
        routing(engine, head_seconds=SECONDS, connections=IDLE) as router,
    ):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert (await router.ask()).status == 200
        async with connected_idle(router.port, IDLE):
            await until(lambda: router.router._listener.connected > IDLE - 100)
            assert (await router.ask()).status == 200
            last = request().replace(b"Host", b"Connection: close\r\nHost", 1)
            assert (await router.raw(last)).startswith(b"HTTP/1.1 200")
            assert router.router._listener.connected <= IDLE
        await until(lambda: router.router._listener.connected == 1)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert grown * 1024 < IDLE * 32 * 1024
