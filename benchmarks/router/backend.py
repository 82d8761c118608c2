"""Engines that cost next to nothing: answers in the OpenAI form, whole or as a stream, at a given pace."""

import asyncio
import random
from typing import Any, Final, cast

import httptools
import orjson

from slipstream_runtime import contract

PIECES: Final = 50
"""Tokens of a stream."""
_HEAD: Final = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\n"
_EVENTS: Final = _HEAD % b"text/event-stream; charset=utf-8" + b"transfer-encoding: chunked\r\n\r\n"
_USAGE: Final = {"prompt_tokens": 300, "completion_tokens": PIECES, "total_tokens": 300 + PIECES}


def _response(kind: bytes, body: bytes) -> bytes:
    return _HEAD % kind + b"content-length: %d\r\n\r\n" % len(body) + body


def _answer() -> bytes:
    """An answer of 1 KB."""
    content = {
        "id": "chatcmpl-7d0f2c8a4b9e4d3f",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "chat",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "word " * 140},
                "finish_reason": "stop",
            }
        ],
        "usage": _USAGE,
    }
    return _response(b"application/json", orjson.dumps(content))


def _event(**fields: object) -> bytes:
    head = {
        "id": "chatcmpl-7d0f2c8a4b9e4d3f",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": "chat",
    }
    return b"data: " + orjson.dumps({**head, **fields}) + b"\n\n"


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _page() -> bytes:
    """Metrics of about as many series as vLLM has, so that reading them costs what it costs."""
    lines = [f'{contract.WAITING}{{engine="0",model_name="chat"}} 0.0']
    lines += [f'{contract.KV_USAGE}{{engine="0",model_name="chat"}} 0.25']
    for number in range(20):
        lines += [
            f'vllm:histogram_{number}_seconds_bucket{{engine="0",le="{bound}",model_name="chat"}} {bound}.0'
            for bound in range(25)
        ]
    return _response(b"text/plain; version=0.0.4", "\n".join([*lines, ""]).encode())


_WHOLE: Final = _answer()
_PIECE: Final = _chunk(
    _event(
        choices=[
            {"index": 0, "delta": {"content": "word "}, "logprobs": None, "finish_reason": None}
        ]
    )
)
_END: Final = _chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"
_END_WITH_USAGE: Final = _chunk(_event(choices=[], usage=_USAGE)) + _END
_METRICS: Final = _page()
_OTHER: Final = _response(b"application/json", b"{}")
_NOT_FOUND: Final = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"


class Backend:
    """What all connections of the engines share."""

    def __init__(self) -> None:
        self.pace: float | None = None
        """Seconds between the tokens of a stream; None: the next when its client has called `next`."""
        self.silent = False
        """Requests get no answer."""
        self.came = asyncio.Event()
        """A request came."""
        self.left = asyncio.Event()
        """A connection broke before its answer was complete."""
        self._streams: dict[str, _Connection] = {}

    async def listen(self) -> tuple[asyncio.Server, int]:
        """One more engine, and its port."""
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Connection(self), "127.0.0.1", 0, backlog=4096)
        return server, server.sockets[0].getsockname()[1]

    def next(self, user: str) -> None:
        """The client has its last token: send the next."""
        self._streams[user].piece()

    def begun(self, user: str, connection: "_Connection") -> None:
        """A stream waits for `next`."""
        self._streams[user] = connection


class _Connection(asyncio.Protocol):
    """One connection of a router."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._parser: Any = httptools.HttpRequestParser(self)
        self._path = b""
        self._body: list[bytes] = []
        self._left = 0
        self._end = _END
        self._at = 0.0
        self._busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._busy:
            self._backend.left.set()
        self._left = 0

    def on_url(self, url: bytes) -> None:
        self._path = url

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        raw, self._body = b"".join(self._body), []
        if self._path == contract.METRICS_PATH.encode():
            self._transport.write(_METRICS)
        elif self._path != b"/v1/chat/completions":
            self._transport.write(_NOT_FOUND if self._path.startswith(b"/v1/") else _OTHER)
        else:
            self._answer(orjson.loads(raw))

    def _answer(self, body: dict[str, Any]) -> None:
        backend = self._backend
        backend.came.set()
        self._busy = backend.silent
        if backend.silent:
            return
        if not body.get("stream"):
            self._transport.write(_WHOLE)
            return
        self._busy = True
        usage = (body.get("stream_options") or {}).get("include_usage")
        self._end = _END_WITH_USAGE if usage else _END
        self._left = PIECES - 1
        self._transport.write(_EVENTS + _PIECE)
        if backend.pace is None:
            backend.begun(body["user"], self)
        else:
            loop = asyncio.get_running_loop()
            # NB: streams that begin together would have all their tokens together.
            self._at = loop.time() + backend.pace * (0.5 + random.random())
            loop.call_at(self._at, self._tick)

    def _tick(self) -> None:
        if self._left:
            self.piece()
            self._at += self._backend.pace or 0.0
            asyncio.get_running_loop().call_at(self._at, self._tick)
        elif self._busy and not self._transport.is_closing():
            self._finish()

    def piece(self) -> None:
        """Send a token; after the last one, the end."""
        if self._left:
            self._left -= 1
            self._transport.write(_PIECE)
        else:
            self._finish()

    def _finish(self) -> None:
        self._busy = False
        self._transport.write(self._end)
