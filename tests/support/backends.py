"""Scripted engine on real sockets, with failures that a working engine can't produce on demand."""

import asyncio
import contextlib
import dataclasses
import json
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


@dataclasses.dataclass(frozen=True)
class Received:
    """Request as the engine received it."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def content(self) -> Any:
        return json.loads(self.body)

    @property
    def streams(self) -> bool:
        return bool(self.content.get("stream"))


class Peer:
    """One connection from the router."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def head(self, status: int = 200, **headers: str) -> None:
        fields = {"content-type": "application/json", **_dashed(headers)}
        lines = [f"HTTP/1.1 {status} X", *(f"{name}: {value}" for name, value in fields.items())]
        await self.write("\r\n".join([*lines, "", ""]).encode())

    async def whole(self, content: object, status: int = 200, **headers: str) -> None:
        body = json.dumps(content).encode()
        await self.head(status, content_length=str(len(body)), **headers)
        await self.write(body)

    async def stream(self, **headers: str) -> None:
        kind = "text/event-stream; charset=utf-8"
        await self.head(content_type=kind, transfer_encoding="chunked", **headers)

    async def chunk(self, data: bytes) -> None:
        await self.write(b"%x\r\n%s\r\n" % (len(data), data))

    async def event(self, content: object) -> None:
        await self.chunk(b"data: " + json.dumps(content).encode() + b"\n\n")

    async def tokens(self, count: int) -> None:
        for number in range(count):
            await self.event({"choices": [{"delta": {"content": f"{number} "}}]})

    async def done(self) -> None:
        await self.chunk(b"data: [DONE]\n\n")
        await self.write(b"0\r\n\r\n")

    async def write(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def reset(self) -> None:
        """Close with RST, as the kernel does for a killed process."""
        found: socket.socket = self.writer.get_extra_info("socket")
        found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    def close(self) -> None:
        self.writer.close()

    async def left(self) -> None:
        """Return once the router closes the connection."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65536):
                pass


Behavior = Callable[[Peer, Received], Awaitable[None]]


async def answer(peer: Peer, received: Received) -> None:
    """Answer like a working engine."""
    if not received.streams:
        await peer.whole({"choices": [{"message": {"content": "0 1 2"}}], "usage": USAGE})
        return
    await peer.stream()
    await peer.tokens(3)
    if (received.content.get("stream_options") or {}).get("include_usage"):
        await peer.event({"choices": [], "usage": USAGE})
    await peer.done()


def status(code: int, **headers: str) -> Behavior:
    async def behave(peer: Peer, received: Received) -> None:
        await peer.whole({"error": {"message": "no"}}, code, **headers)

    return behave


async def die(peer: Peer, received: Received) -> None:
    """Break off before the headers."""
    peer.reset()


async def die_between(peer: Peer, received: Received) -> None:
    """Break off after the headers, before the first event."""
    await peer.stream()
    peer.reset()


class Held:
    """Behavior that waits until it is released, and records how the router's connection ended."""

    def __init__(self, *, begun: int | None = None, then: Behavior | None = answer) -> None:
        self.release = asyncio.Event()
        self.waiting = 0
        self.most = 0
        self.abandoned = 0
        self._begun = begun
        self._then = then

    async def __call__(self, peer: Peer, received: Received) -> None:
        if self._begun is not None:
            await peer.stream()
            await peer.tokens(self._begun)
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        leaving = asyncio.ensure_future(peer.left())
        release = asyncio.ensure_future(self.release.wait())
        try:
            await asyncio.wait({leaving, release}, return_when=asyncio.FIRST_COMPLETED)
            if leaving.done():
                self.abandoned += 1
                peer.close()
                return
        finally:
            self.waiting -= 1
            release.cancel()
            leaving.cancel()
            await asyncio.gather(leaving, release, return_exceptions=True)
        if self._then is None or self._begun is not None:
            await peer.done()
        else:
            await self._then(peer, received)


class Backend:
    """One engine; uses the behaviors of `script` in order, then `always`."""

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.always: Behavior = answer
        self.script: list[Behavior] = []
        self.unread: list[Behavior] = []
        """Behaviors towards requests that ask whether to send their body: the engine answers without reading it."""
        self.metrics = "vllm:num_requests_waiting 0\nvllm:kv_cache_usage_perc 0\n"
        self.scrape: Behavior = self._scrape
        self.connections = 0
        self.port = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, port: int = 0) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in [*self._tasks]:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        peer = Peer(reader, writer)
        try:
            while not writer.is_closing() and (received := await _head(reader)) is not None:
                if "expect" in received.headers:
                    if self.unread:
                        self.received.append(received)
                        await self.unread.pop(0)(peer, received)
                        continue
                    await peer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                await self._behave(peer, await _whole(reader, received))
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self.connections -= 1
            self._tasks.discard(task)
            writer.close()

    async def _behave(self, peer: Peer, received: Received) -> None:
        if received.path == "/metrics":
            await self.scrape(peer, received)
            return
        self.received.append(received)
        behave = self.script.pop(0) if self.script else self.always
        await behave(peer, received)

    async def _scrape(self, peer: Peer, received: Received) -> None:
        body = self.metrics.encode()
        await peer.head(content_length=str(len(body)))
        await peer.write(body)


@contextlib.asynccontextmanager
async def running(count: int = 1) -> AsyncIterator[Sequence[Backend]]:
    """Run this number of engines."""
    backends = [Backend() for _ in range(count)]
    for backend in backends:
        await backend.start()
    try:
        yield backends
    finally:
        for backend in backends:
            await backend.stop()


async def _head(reader: asyncio.StreamReader) -> Received | None:
    """Return the next request without its body."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.decode("latin-1").split("\r\n")[:-2]
    method, path, _ = first.split(" ")
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    return Received(method, path, headers, b"")


async def _whole(reader: asyncio.StreamReader, received: Received) -> Received:
    """Return the request with its body; ConnectionError if the router breaks it off."""
    try:
        if received.headers.get("transfer-encoding") != "chunked":
            size = int(received.headers.get("content-length", "0"))
            return dataclasses.replace(received, body=await reader.readexactly(size))
        parts = []
        while size := int(await reader.readuntil(b"\r\n"), 16):
            parts.append((await reader.readexactly(size + 2))[:-2])
        await reader.readexactly(2)
        return dataclasses.replace(received, body=b"".join(parts))
    except asyncio.IncompleteReadError:
        raise ConnectionError("the body broke off") from None


def _dashed(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}
