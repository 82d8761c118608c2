"""Connections of an attacker: bytes that no HTTP client would send, and what comes back."""

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any, Final, Self

HOST: Final = "127.0.0.1"
PER_SECOND: Final = 50
"""Requests per second of one attacker at most."""
CONNECTIONS: Final = 1000
"""Connections of one attacker at most."""
_PART: Final = 256 * 1024
"""Bytes handed to the socket at once."""


@dataclass(frozen=True)
class Target:
    """One port, and what a client of it knows."""

    port: int
    model: str
    key: str | None = None
    host: str = "engine"
    """Host header, which names the service to a router."""
    keys: str | None = None
    """Folder of the documents of keys that the client may write."""
    others: tuple[int, ...] = ()
    """Ports of the other routers of the namespace."""

    def head(
        self, path: str, length: int | None = None, fields: Iterable[str] = (), method: str = "POST"
    ) -> bytes:
        """Return a request up to the empty line before its body."""
        lines = [
            f"{method} {path} HTTP/1.1",
            f"host: {self.host}",
            "content-type: application/json",
        ]
        if self.key is not None:
            lines.append(f"authorization: Bearer {self.key}")
        if length is not None:
            lines.append(f"content-length: {length}")
        return "\r\n".join([*lines, *fields, "", ""]).encode()

    def request(self, path: str, body: bytes) -> bytes:
        """Return a whole request, after whose answer the connection closes."""
        return self.head(path, len(body), ["connection: close"]) + body

    def ask(self, path: str = "/v1/chat/completions", **fields: Any) -> bytes:
        """Return a request with these fields beside the model and a short prompt."""
        given = {"model": self.model, **fields}
        if path.endswith("/chat/completions"):
            given.setdefault("messages", [{"role": "user", "content": "hi"}])
            given.setdefault("max_tokens", 8)
        return self.request(path, json.dumps(given).encode())


@dataclass(frozen=True)
class Targets:
    """All ports of the lab."""

    chat: Target
    """The router, for a service whose clients need keys."""
    open: Target
    """The router, for a service without keys."""
    fragile: Target
    """The router, for a service whose engines die of a word."""
    engine: Target
    """The API of the vLLM engine, without a key."""
    management: Target
    """Management port of the vLLM engine."""
    router_management: Target
    paid: Target
    """The router, for a service on which the attacker has a budget."""
    hostile: Target
    """The router, for a service whose engine is the attacker's."""
    vision: Target | None = None
    """The router, for a model that sees."""
    encoder: Target | None = None
    """The router, for the encoder on ONNX Runtime."""
    encoder_port: Target | None = None
    """The API of that engine, without a key."""

    def text(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def parse(cls, text: str) -> Self:
        found = json.loads(text)
        return cls(**{name: value and Target(**value) for name, value in found.items()})


class Deadline:
    """End of an attack, by the monotonic clock."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        return max(0.0, self._end - time.monotonic())

    @property
    def over(self) -> bool:
        return self.left == 0


@contextlib.asynccontextmanager
async def connection(
    port: int, *, receive_buffer: int | None = None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection that is cut at the end, whatever runs on it."""
    sock = socket.socket()
    if receive_buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(sock, (HOST, port))
        limit = 2**16 if receive_buffer is None else receive_buffer
        reader, writer = await asyncio.open_connection(sock=sock, limit=limit)
    except BaseException:
        sock.close()
        raise
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def write(writer: asyncio.StreamWriter, data: bytes) -> None:
    """Write all of it, no faster than the server reads."""
    for at in range(0, len(data), _PART):
        writer.write(data[at : at + _PART])
        await writer.drain()


async def exchange(port: int, data: bytes, *, seconds: float) -> bytes:
    """Send one request and return what comes back until the end of the connection or of the time."""
    answer = b""
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(seconds), connection(port) as (reader, writer):
            with contextlib.suppress(ConnectionError):
                await write(writer, data)
            while part := await reader.read(2**16):
                answer += part
    return answer


async def repeatedly(
    once: Callable[[], Awaitable[object]], deadline: Deadline, *, at_once: int
) -> None:
    """Run `once` repeatedly, `at_once` at a time and at most PER_SECOND times a second."""

    async def worker() -> None:
        while not deadline.over:
            started = time.monotonic()
            with contextlib.suppress(OSError, TimeoutError):
                await once()
            rest = at_once / PER_SECOND - (time.monotonic() - started)
            await asyncio.sleep(max(0.0, min(rest, deadline.left)))

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(worker())


async def sending(target: Target, data: bytes, deadline: Deadline, *, at_once: int = 2) -> None:
    """Send one request over and over."""
    await repeatedly(
        lambda: exchange(target.port, data, seconds=deadline.left), deadline, at_once=at_once
    )
