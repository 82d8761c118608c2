"""uvicorn as this process needs it: no signal handlers, no polling, sockets made by the caller."""

import asyncio
import contextlib
import json
import socket
from collections.abc import Iterator
from typing import Final

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from slipstream_runtime.web import asgi, openai

KEEP_ALIVE_SECONDS: Final = 75
"""Longer than pooled clients and proxies keep idle connections (60 s is common): the one that closes an idle
connection should be the client, or its next request meets a closing socket."""
_BACKLOG: Final = 2048
_GRACE_SECONDS: Final = 2


class _Protocol(HttpToolsProtocol):
    """HTTP whose own refusals have the form of the OpenAI API's errors, too."""

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, and close."""
        body = json.dumps(openai.error(msg, status=400)).encode()
        head = (
            "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()


class Server(uvicorn.Server):
    """Serves until `stop` is called; `listening` is set once connections are accepted."""

    def __init__(self, app: asgi.Application, *, lifespan: bool) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=_Protocol,
                ws="none",
                lifespan="on" if lifespan else "off",
                interface="asgi3",
                log_config=None,
                access_log=False,
                server_header=False,
                date_header=False,
                proxy_headers=False,
                backlog=_BACKLOG,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=_GRACE_SECONDS,
            )
        )
        self.listening = asyncio.Event()
        self._stop = asyncio.Event()

    def stop(self) -> None:
        """Close the sockets and end `serve`."""
        self._stop.set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen."""
        await super().startup(sockets)
        self.listening.set()

    async def main_loop(self) -> None:
        """Wait for `stop`, instead of looking ten times a second."""
        await self._stop.wait()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to the supervisor."""
        yield
