"""A client that costs little: one connection, one request at a time, and when each piece of the answer came."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Self, cast

import httptools
import orjson

KEY: Final = "a-key-of-the-benchmark"
_EVENT: Final = b"data: {"
_PROMPT: Final = "You are a helpful assistant. Answer briefly, and say so if you do not know. " * 8


def body(*, stream: bool, user: str) -> bytes:
    """A request of 1.4 KB, the first half of which all have in common."""
    question = f"{user}: " + "What did the quick brown fox do then, and why? " * 12
    messages = [{"role": "system", "content": _PROMPT}, {"role": "user", "content": question}]
    content = {"model": "chat", "messages": messages, "max_tokens": 256, "temperature": 0.7}
    return orjson.dumps({**content, "user": user, "stream": stream})


def request(content: bytes) -> bytes:
    """A body as it goes over the wire."""
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: router\r\naccept: */*\r\nuser-agent: benchmark\r\n"
        b"authorization: Bearer %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
        % (KEY.encode(), len(content), content)
    )


def scrape(path: str) -> bytes:
    """A GET as it goes over the wire."""
    return f"GET {path} HTTP/1.1\r\nhost: router\r\n\r\n".encode()


@dataclass(slots=True)
class Answer:
    """What came, by the monotonic clock in seconds."""

    sent: float
    status: int = 0
    size: int = 0
    pieces: list[float] = field(default_factory=list)
    """When each event of a stream came."""
    ended: float = 0.0

    @property
    def seconds(self) -> float:
        """Until the answer was complete."""
        return self.ended - self.sent

    @property
    def ttft(self) -> float:
        """Until the first event."""
        return self.pieces[0] - self.sent


class Client(asyncio.Protocol):
    """One connection."""

    def __init__(self, *, received: Callable[[], None] | None = None) -> None:
        self._received = received
        """Called after each event of a stream."""
        self._parser: Any = httptools.HttpResponseParser(self)
        self._answer = Answer(0.0)
        self._done: asyncio.Future[Answer] | None = None
        self._now = 0.0

    @classmethod
    async def connect(cls, port: int, *, received: Callable[[], None] | None = None) -> Self:
        """To this port of this machine."""
        loop = asyncio.get_running_loop()
        _, client = await loop.create_connection(lambda: cls(received=received), "127.0.0.1", port)
        return client

    async def ask(self, wire: bytes) -> Answer:
        """The answer; RuntimeError if it is none of 200, ConnectionError if the connection breaks."""
        return await self.begin(wire)

    def begin(self, wire: bytes) -> "asyncio.Future[Answer]":
        """The same for who does not wait for it."""
        self._done = asyncio.get_running_loop().create_future()
        self._answer = Answer(time.perf_counter())
        self._transport.write(wire)
        return self._done

    def leave(self) -> None:
        """Close the connection, whatever runs on it."""
        self._done = None
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_exception(ConnectionError("the answer broke off"))

    def data_received(self, data: bytes) -> None:
        self._now = time.perf_counter()
        self._parser.feed_data(data)

    def on_headers_complete(self) -> None:
        self._answer.status = self._parser.get_status_code()

    def on_body(self, piece: bytes) -> None:
        answer = self._answer
        answer.size += len(piece)
        for _ in range(piece.count(_EVENT)):
            answer.pieces.append(self._now)
            if self._received is not None:
                self._received()

    def on_message_complete(self) -> None:
        answer, done = self._answer, self._done
        answer.ended = self._now
        if done is None or done.done():
            return
        if answer.status == 200:
            done.set_result(answer)
        else:
            done.set_exception(RuntimeError(f"HTTP {answer.status}"))
