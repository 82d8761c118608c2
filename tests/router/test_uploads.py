"""Uploads that are larger than the router reads ahead: they pass through it as they arrive."""

import asyncio
import contextlib
import email
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest

from slipstream_runtime import contract
from slipstream_runtime.host.front import Front
from slipstream_runtime.host.lifecycle import Phase
from slipstream_runtime.router.messages import uploads
from slipstream_runtime.web import asgi, body, openai, sockets
from slipstream_runtime.web.server import Server
from tests.router.test_process import beside, started
from tests.support import backends
from tests.support.clients import KEY, life_in
from tests.support.routers import Running, routing, service, until

LARGE = b"RIFF\0\xff--x\r\n" * 300_000
"""File of about three times the bytes that are read ahead."""
MIB = 1024 * 1024
BOUNDARY = "of-the-client"


def head(name: str, *, filename: str | None = None) -> bytes:
    file = "" if filename is None else f'; filename="{filename}"'
    return f'--{BOUNDARY}\r\ncontent-disposition: form-data; name="{name}"{file}\r\n\r\n'.encode()


def text(name: str, value: str) -> bytes:
    return head(name) + value.encode() + b"\r\n"


def file(content: bytes = LARGE) -> bytes:
    return head("file", filename="a.wav") + content + b"\r\n"


END = f"--{BOUNDARY}--\r\n".encode()
KIND = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}


def url(router: Running) -> str:
    return f"http://127.0.0.1:{router.port}{openai.TRANSCRIPTIONS}"


async def send(router: Running, *parts: bytes) -> tuple[int, dict[str, object]]:
    """Return the status and the content of the answer."""

    async def chunks() -> AsyncIterator[bytes]:
        for part in parts:
            yield part

    async with router.http.post(url(router), data=chunks(), headers=KIND) as response:
        return response.status, json.loads(await response.read())


def fields(received: backends.Received) -> Mapping[str, bytes]:
    kind = received.headers["content-type"].encode()
    found = email.message_from_bytes(b"content-type: " + kind + b"\r\n\r\n" + received.body)
    return {
        str(part.get_param("name", header="content-disposition")): bytes(
            part.get_payload(decode=True)
        )
        for part in found.walk()
        if not part.is_multipart()
    }


@pytest.mark.parametrize(
    "parts",
    [
        (text("model", "m"), text("language", "de"), file()),
        (file(), text("model", "m"), text("language", "de")),
        (text("model", "m"), file(), text("language", "de")),
    ],
    ids=["model first", "model last", "a field behind the file"],
)
async def test_a_large_upload_reaches_the_engine_whole(parts: tuple[bytes, ...]) -> None:
    async with backends.running() as (engine,), routing(engine) as router:
        engine.always = backends.status(200)
        assert (await send(router, *parts, END))[0] == 200
        [received] = engine.received
        assert fields(received) == {"model": b"m", "language": b"de", "file": LARGE}


async def test_an_upload_reaches_the_engine_while_the_client_still_sends_it() -> None:
    rest = asyncio.Event()

    async def chunks() -> AsyncIterator[bytes]:
        yield text("model", "m") + head("file", filename="a.wav") + LARGE
        await rest.wait()
        yield b"\r\n" + END

    async with backends.running() as (engine,), routing(engine) as router:
        engine.always = backends.status(200)
        sending = asyncio.ensure_future(router.http.post(url(router), data=chunks(), headers=KIND))
        [endpoint] = router.chat.pool
        await until(lambda: endpoint.in_flight == 1)
        assert not sending.done()
        rest.set()
        async with await sending as response:
            assert response.status == 200
        assert fields(engine.received[0])["file"] == LARGE


@pytest.mark.parametrize("crowded", [True, False], ids=["others wait", "nobody waits"])
async def test_an_upload_that_stalls_gives_its_slot_back_only_to_others_that_wait(
    monkeypatch: pytest.MonkeyPatch, crowded: bool
) -> None:
    monkeypatch.setattr(uploads, "PACE_SECONDS", 0.02)
    rest, checks = asyncio.Event(), list[int]()
    judge = uploads._Pace.judge
    monkeypatch.setattr(
        uploads._Pace, "judge", lambda pace, size: checks.append(size) or judge(pace, size)
    )

    async def chunks() -> AsyncIterator[bytes]:
        yield text("model", "m") + head("file", filename="a.wav") + LARGE
        await rest.wait()
        yield b"\r\n" + END

    limits = {"concurrency": 1}
    async with backends.running() as (engine,), routing(engine, limits=limits) as router:
        engine.always = backends.status(200)
        sending = asyncio.ensure_future(router.http.post(url(router), data=chunks(), headers=KIND))
        [endpoint] = router.chat.pool
        await until(lambda: endpoint.in_flight == 1)
        if crowded:
            assert (await router.ask()).status == 200
        else:
            await until(lambda: len(checks) >= 3)
            rest.set()
        async with await sending as response:
            assert response.status == (408 if crowded else 200)
            if crowded:
                assert "slower than 64 KiB/s while other requests waited" in await response.text()
        rest.set()


async def test_an_upload_goes_to_another_replica_if_the_first_refuses_or_ends_before_it_reads_it() -> (
    None
):
    for behave in (backends.status(503), backends.die):
        async with backends.running(2) as engines, routing(*engines) as router:
            for engine in engines:
                engine.always = backends.status(200)
            engines[0].unread = [behave]
            for _ in range(2):
                assert (await send(router, text("model", "m"), file(), END))[0] == 200
            whole = [each for engine in engines for each in engine.received if each.body]
            assert [fields(each)["file"] for each in whole] == [LARGE] * 2


async def test_an_upload_of_which_a_replica_got_a_part_is_not_sent_again() -> None:
    async with backends.running(2) as engines, routing(*engines) as router:
        for engine in engines:
            engine.always = backends.die
        status, content = await send(router, text("model", "m"), file(), END)
        assert status == 502
        assert "closed the connection" in str(content)
        assert sum(len(engine.received) for engine in engines) == 1


async def test_the_connection_of_an_upload_that_was_refused_unread_carries_no_other_request() -> (
    None
):
    async with backends.running() as (engine,), routing(engine) as router:
        engine.unread = [backends.status(400)]
        assert (await send(router, text("model", "m"), file(), END))[0] == 400
        reply = await router.ask()
        assert reply.status == 200
        assert [each.path for each in engine.received] == [openai.TRANSCRIPTIONS, openai.CHAT]


@pytest.mark.parametrize(
    ("parts", "status", "message"),
    [
        ((text("model", "other"), END), 400, "model: must not be set twice"),
        ((text(" ", "x"), END), 400, "without a valid name"),
        ((b"no boundary",), 400, "not valid multipart/form-data"),
        ((text("prompt", "x" * 2 * MIB), END), 400, "prompt: the text fields have more than"),
        ((file(b"x" * body.UPLOAD_LIMIT), END), 413, "larger than"),
    ],
    ids=["second model", "no name", "no end", "long text", "too large"],
)
async def test_an_upload_that_turns_out_bad_never_reaches_the_engine_whole(
    parts: tuple[bytes, ...], status: int, message: str
) -> None:
    async with backends.running() as (engine,), routing(engine) as router:
        found, content = await send(router, text("model", "m"), file(), *parts)
        assert (found, message in str(content)) == (status, True), content
        assert engine.received == []
        assert (await router.ask()).status == 200  # the replica is not blamed


async def test_a_client_that_stops_in_the_middle_is_refused_in_time() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield text("model", "m") + head("file", filename="a.wav") + LARGE
        await asyncio.Event().wait()

    limits = {"bodyTimeout": 0.5}
    async with backends.running() as (engine,), routing(engine, limits=limits) as router:
        async with router.http.post(url(router), data=chunks(), headers=KIND) as response:
            assert response.status == 408
            assert "0.5 s" in await response.text()
        assert engine.received == []


async def test_a_client_that_leaves_in_the_middle_frees_the_slot() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield text("model", "m") + head("file", filename="a.wav") + LARGE
        await asyncio.Event().wait()

    async with backends.running() as (engine,), routing(engine) as router:
        sending = asyncio.ensure_future(router.http.post(url(router), data=chunks(), headers=KIND))
        [endpoint] = router.chat.pool
        await until(lambda: endpoint.in_flight == 1)
        sending.cancel()
        await until(lambda: endpoint.in_flight == 0)
        assert engine.received == []


@contextlib.asynccontextmanager
async def engine_front(phase: Phase) -> AsyncIterator[tuple[Any, list[bytes]]]:
    """The front of real engines, before an application that reads bodies."""
    bodies: list[bytes] = []

    async def app(scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        bodies.append(await asgi.read(receive, limit=body.UPLOAD_LIMIT))
        await asgi.respond_json(send, {})

    listener = sockets.bind(0)
    server = Server(Front(app, life=life_in(phase), probe_key=KEY), lifespan=False)
    running = asyncio.create_task(server.serve(sockets=[listener]))
    await server.listening.wait()
    try:
        yield SimpleNamespace(port=listener.getsockname()[1]), bodies
    finally:
        server.stop()
        await running


async def test_the_front_of_an_engine_takes_a_large_upload_and_one_that_leaves_gets_nothing_of_it() -> (
    None
):
    async with (
        engine_front(Phase.READY) as (ready, bodies),
        engine_front(Phase.DRAINING) as (leaving, none),
        routing(leaving, ready) as router,
    ):
        for _ in range(4):
            assert (await send(router, text("model", "m"), file(), END))[0] == 200
        assert [LARGE in each for each in bodies] == [True] * 4
        assert none == []


def peak_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    [found] = [line for line in lines if line.startswith("VmHWM")]
    return int(found.split()[1]) * 1024


@pytest.mark.parametrize(
    ("count", "size"),
    [(4, 25 * MIB), (1, 100 * MIB)],
    ids=["four of vLLM's limit", "one of a limit that the service sets"],
)
async def test_a_hundred_mebibytes_of_uploads_at_once_take_little_memory(
    count: int, size: int, tmp_path: Path
) -> None:

    async def chunks() -> AsyncIterator[bytes]:
        yield text("model", "m") + head("file", filename="a.wav")
        for _ in range(size // MIB):
            yield bytes(MIB)
        yield b"\r\n" + END

    async with backends.running() as (engine,):
        engine.always = backends.status(200)
        files = beside(engine, tmp_path)
        limits = {"uploadSize": contract.upload_limit(size // MIB)}
        config = {"namespace": "team", "services": [service(limits=limits)]}
        (tmp_path / "router.json").write_text(json.dumps(config))
        async with (
            started(contract.ROUTER_MODULE, *files) as (process, ports),
            aiohttp.ClientSession() as http,
        ):
            target = f"http://127.0.0.1:{ports['api']}{openai.TRANSCRIPTIONS}"

            async def upload() -> int:
                async with http.post(target, data=chunks(), headers=KIND) as response:
                    return response.status

            before = peak_bytes(process.pid)
            assert await asyncio.gather(*[upload() for _ in range(count)]) == [200] * count
            assert [len(each.body) > size for each in engine.received] == [True] * count
            assert peak_bytes(process.pid) - before < 16 * MIB
