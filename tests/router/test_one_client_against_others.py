"""One client that asks for too much: others are served, memory stays bounded, and a plain refusal says why."""

import asyncio
import contextlib
import io
import json
import resource
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from slipstream_runtime import contract
from slipstream_runtime.router.messages import structure
from slipstream_runtime.router.messages.usage import EVENT_BYTES
from slipstream_runtime.router.proxy.readers import SPOOL_BYTES
from slipstream_runtime.web.refusal import Refusal
from tests.support import backends
from tests.support.backends import Held, Peer, Received
from tests.support.routers import CHAT, DEADLINE, Reply, Running, routing, service, until

MIB = 1024 * 1024
HEAD = f"POST {CHAT} HTTP/1.1\r\nHost: r\r\nContent-Type: application/json\r\n".encode()
START = b'{"model":"zz","messages":[{"role":"user","content":"hi"}],"x":['


def filled(part: bytes, *, size: int = 16 * MIB - 100) -> bytes:
    return START + part * ((size - len(START)) // len(part)) + b"0]}"


def headed(body: bytes, *lines: bytes) -> bytes:
    return b"%s%sContent-Length: %d\r\n\r\n%s" % (
        HEAD, b"".join(line + b"\r\n" for line in lines), len(body), body,
    )  # fmt: skip


GOOD = b'{"model": "m"}'


@contextlib.asynccontextmanager
async def process(
    engine: backends.Backend, folder: Path, *, files: int | None = None
) -> AsyncIterator[Any]:
    """Run a router as a process; `files` are its soft and hard limit of open files."""
    (folder / "router.json").write_text(json.dumps({"namespace": "team", "services": [service()]}))
    place = {"host": "127.0.0.1", "port": engine.port, "managementPort": engine.port}
    (folder / "endpoints.json").write_text(json.dumps({"revisions": {"chat-1": [place]}}))

    def limit() -> None:
        if files is not None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (files // 2, files))

    running = await asyncio.create_subprocess_exec(
        sys.executable, "-m", contract.ROUTER_MODULE, "--config", str(folder / "router.json"),
        "--endpoints", str(folder / "endpoints.json"), "--api-port", "0", "--management-port", "0",
        stderr=asyncio.subprocess.PIPE, preexec_fn=limit,
    )  # fmt: skip
    assert running.stderr is not None
    lines = []
    try:
        async with asyncio.timeout(DEADLINE):
            while not lines or lines[-1]["event"] != "listening":
                lines.append(json.loads(await running.stderr.readline()))
        async with aiohttp.ClientSession() as http:
            yield running, lines, http
    finally:
        running.kill()
        await running.communicate()


def peak_mib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    [found] = [line for line in lines if line.startswith("VmHWM")]
    return int(found.split()[1]) / 1024


BODIES = [b"[[[[]]]],", b"[],", b"0,", b'"ab",', b'{"a":1},', b"1.5,"]


async def test_bodies_of_many_parts_take_little_memory_and_hold_nobody_up(tmp_path: Path) -> None:
    async with backends.running() as (engine,), process(engine, tmp_path) as (running, lines, http):
        url = f"http://127.0.0.1:{lines[-1]['api']}{CHAT}"
        kind = {"content-type": "application/json"}
        ended = asyncio.Event()

        async def ask() -> int:
            answered = 0
            while not ended.is_set():
                async with http.post(url, json={"model": "m"}) as response:
                    assert response.status == 200
                    answered += 1
            return answered

        other = asyncio.create_task(ask())
        for body in map(filled, BODIES):
            async with http.post(url, data=io.BytesIO(body), headers=kind) as response:
                assert response.status == 413
                assert "Send fewer" in (await response.json())["error"]["message"]
        ended.set()
        assert await other > 0
        assert peak_mib(running.pid) < 256


def test_what_a_body_may_take_is_known_before_it_is_parsed() -> None:
    code = rb"if (a[1]) { f(a, b); }\n  x = \"a\";"
    assert structure.parsed_size(b'{"a":"%s"}' % (code * 300_000)) < 12 * MIB
    assert structure.parsed_size(b'{"a":"%s"}' % ("é😀".encode() * MIB)) > 6 * 4 * MIB
    assert structure.parsed_size(b'{"a":[%s0]}' % (b"12345," * MIB)) < 120 * MIB
    with pytest.raises(Refusal):
        structure.parsed_size(b'{"a":[%s0]}' % (b"[]," * 200_000))


async def test_one_client_can_not_take_all_memory_of_bodies() -> None:
    stopped = b"%sContent-Length: %d\r\n\r\n{" % (HEAD, 16 * MIB)
    async with backends.running() as (engine,), routing(engine) as router:
        crowd = []
        for _ in range(40):
            crowd.append(await asyncio.open_connection("127.0.0.1", router.port))
            crowd[-1][1].write(stopped)
        memory = router.router.memory
        await until(lambda: 4 * 16 * MIB <= memory.used <= memory.share)
        other = await asyncio.open_connection("127.0.0.1", router.port, local_addr=("127.0.0.2", 0))
        other[1].write(headed(b'{"model":"m","user":"%s"}' % (b"x" * 15 * MIB)))
        assert (await other[0].readline()).startswith(b"HTTP/1.1 200")
        for _, writer in [*crowd, other]:
            writer.close()
        await until(lambda: memory.used == 0)


async def test_heads_that_do_not_end_and_pipelines_count_as_memory() -> None:
    async with routing() as router:
        memory = router.router.memory
        memory.most = memory.largest = 400_000
        crowd = [await asyncio.open_connection("127.0.0.1", router.port) for _ in range(6)]
        for _, writer in crowd:
            writer.write(HEAD + b"X: " + b"x" * 100_000)
        answers = [asyncio.ensure_future(reader.readline()) for reader, _ in crowd]
        await until(lambda: sum(each.done() for each in answers) >= 2)
        assert all(b" 429 " in each.result() for each in answers if each.done())
        assert memory.used <= 400_000
        for (_, writer), each in zip(crowd, answers, strict=True):
            each.cancel()
            writer.close()
        await until(lambda: memory.used == 0)


@contextlib.asynccontextmanager
async def unread(router: Running, **fields: Any) -> AsyncIterator[None]:
    """Ask for a stream, and read nothing of it."""
    found = socket.socket()
    found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    found.setblocking(False)
    await asyncio.get_running_loop().sock_connect(found, ("127.0.0.1", router.port))
    body = json.dumps({"model": "m", "stream": True, **fields}).encode()
    await asyncio.get_running_loop().sock_sendall(found, headed(body))
    yield
    found.close()


async def long_stream(peer: Peer, received: Received, *, size: int) -> None:
    await peer.stream()
    for _ in range(size // 10_000):
        await peer.event({"choices": [{"delta": {"content": "x" * 10_000}}]})
    await peer.done()


async def test_a_client_that_does_not_read_gives_its_engine_free_once_the_answer_is_complete() -> (
    None
):
    async def behave(peer: Peer, received: Received) -> None:
        await long_stream(peer, received, size=SPOOL_BYTES // 2)

    async with (
        backends.running() as (engine,),
        routing(engine, limits={"concurrency": 1}) as router,
    ):
        engine.always = behave
        async with unread(router):
            await until(lambda: len(engine.received) == 1)
            engine.always = backends.answer
            assert (await router.ask()).status == 200
        await until(lambda: router.router.memory.used == 0)


async def test_a_client_that_reads_too_slowly_is_cut_off_and_its_place_is_free() -> None:
    async def behave(peer: Peer, received: Received) -> None:
        await long_stream(peer, received, size=64 * SPOOL_BYTES)

    async with (
        backends.running() as (engine,),
        routing(engine, limits={"concurrency": 1}, slow_seconds=0.2) as router,
    ):
        engine.always = behave
        async with unread(router):
            await until(lambda: len(engine.received) == 1)
            engine.always = backends.answer
            assert (await router.ask()).status == 200
            assert router.router.memory.used == 0


async def test_a_stream_that_breaks_within_an_event_ends_with_the_error_alone() -> None:
    async def behave(peer: Peer, received: Received) -> None:
        await peer.stream()
        await peer.tokens(1)
        await peer.chunk(b'data: {"choices": [{"delta": {"content": "half')
        peer.reset()

    async with backends.running() as (engine,), routing(engine) as router:
        engine.always = behave
        first, last = (await router.ask(stream=True)).events
        assert first["choices"][0]["delta"]["content"] == "0 "
        assert last["error"]["code"] == 502


async def test_an_event_without_an_end_ends_the_stream() -> None:
    async def behave(peer: Peer, received: Received) -> None:
        await peer.stream()
        for _ in range(EVENT_BYTES // 65_536 + 2):
            await peer.chunk(b"x" * 65_536)
        await peer.left()

    async with backends.running() as (engine,), routing(engine) as router:
        engine.always = behave
        [last] = (await router.ask(stream=True)).events
        assert last["error"]["message"] == "An event of the stream has no end."


async def test_no_browser_runs_what_an_engine_answers() -> None:
    async with backends.running() as (engine,), routing(engine) as router:

        async def page(peer: Peer, received: Received) -> None:
            body = b"<script>"
            await peer.head(content_type="text/html", content_length=str(len(body)))
            await peer.write(body)

        engine.always = page
        headers = (await router.ask()).headers
        assert headers["content-type"] == "application/octet-stream"
        assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("coding", [b"gzip, chunked", b"", b"identity", b"chunked, chunked"])
async def test_other_transfer_codings_are_refused(coding: bytes) -> None:
    async with backends.running() as (engine,), routing(engine) as router:
        length = b"Content-Length: 14\r\n" if coding in (b"", b"identity") else b""
        body = GOOD if length else b"e\r\n%s\r\n0\r\n\r\n" % GOOD
        sent = b"%sTransfer-Encoding: %s\r\n%s\r\n%s" % (HEAD, coding, length, body)
        answer = await router.raw(sent + headed(GOOD))
        assert answer.split()[1] == b"400"
        assert answer.count(b"HTTP/1.") == 1
        assert engine.received == []


@pytest.mark.parametrize("apart", [False, True])
async def test_a_request_behind_an_offer_of_http2_is_answered(apart: bool) -> None:
    offer = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk")
    async with backends.running() as (engine,), routing(engine) as router:
        engine.always = held = Held()
        reader, writer = await asyncio.open_connection("127.0.0.1", router.port)
        writer.write(headed(GOOD, *offer))
        if apart:
            await until(lambda: held.waiting == 1)
        writer.write(headed(GOOD) + headed(GOOD, b"Connection: close"))
        await until(lambda: held.waiting == 1)
        held.release.set()
        async with asyncio.timeout(DEADLINE):
            answer = await reader.read()
        writer.close()
        assert answer.count(b"HTTP/1.1 200") == 3


async def test_an_offer_of_http2_in_a_pipeline_ends_the_connection_instead_of_what_follows() -> (
    None
):
    offer = (b"Connection: Upgrade", b"UPGRADE: h2c")
    async with backends.running() as (engine,), routing(engine) as router:
        async with asyncio.timeout(DEADLINE):
            answer = await router.raw(headed(GOOD) + headed(GOOD, *offer) + headed(GOOD))
        assert b"Connection: close" in answer


@pytest.mark.parametrize("given", ["x" * 129, "a b", "a;b", "<script>"])
async def test_an_id_that_no_log_should_hold_does_not_reach_the_engine(given: str) -> None:
    async with backends.running() as (engine,), routing(engine) as router:
        headers = {"x-request-id": given, "tracestate": "a=" + "b" * 600}
        assert (await router.ask(headers=headers)).status == 200
        received = engine.received[0].headers
        assert "tracestate" not in received
        assert received["x-request-id"] != given


async def test_few_open_files_leave_some_for_probes_and_raise_the_soft_limit(
    tmp_path: Path,
) -> None:
    async with (
        backends.running() as (engine,),
        process(engine, tmp_path, files=400) as (_, lines, http),
    ):
        [few] = [line for line in lines if line["event"] == "few open files"]
        assert few["limit"] == 400
        assert few["connections"] == 150
        url = f"http://127.0.0.1:{lines[-1]['api']}"
        crowd = []
        for number in range(600):
            source = (f"127.0.0.{2 + number % 4}", 0)
            crowd.append(
                await asyncio.open_connection("127.0.0.1", lines[-1]["api"], local_addr=source)
            )
        for _ in range(3):
            async with http.post(url + CHAT, json={"model": "m"}) as response:
                assert response.status == 200
            probe = f"http://127.0.0.1:{lines[-1]['management']}{contract.LIVE_PATH}"
            async with http.get(probe) as response:
                assert response.status == 200
        for _, writer in crowd:
            writer.close()


async def test_a_path_that_no_client_has_closes_its_connection() -> None:
    async with routing() as router:
        reply: Reply = await router.get("/nothing")
        assert reply.status == 404
        assert reply.headers["connection"] == "close"
