"""HTTP server: uvicorn without signal handlers and polling, on sockets that the caller binds."""

import asyncio
import contextlib
import functools
import socket
import ssl
from collections.abc import Iterator
from typing import Final, cast

import uvicorn

from slipstream_runtime.web import asgi
from slipstream_runtime.web.connection import Connection, Connections, usable_connections

KEEP_ALIVE_SECONDS: Final = 75
"""Seconds; longer than pooled clients and proxies keep idle connections (60 s is common). The client should close an
idle connection, or its next request may meet a closing socket."""
_BACKLOG: Final = 2048
"""Connections that the kernel queues before they are accepted; uvicorn's default."""
_GRACE_SECONDS: Final = 2
"""Seconds that open connections get once the server stops; by then requests have been drained."""


class Server(uvicorn.Server):
    """Server that runs until `stop` is called; `listening` is set once it accepts connections."""

    def __init__(
        self, app: asgi.Application, *, lifespan: bool, tls: ssl.SSLContext | None = None
    ) -> None:
        shared = Connections(most=usable_connections())
        super().__init__(
            uvicorn.Config(
                app,
                # NB: uvicorn only calls it.
                http=cast(type[asyncio.Protocol], functools.partial(Connection, shared=shared)),
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
        self._tls = tls
        self.listening = asyncio.Event()
        self._stop = asyncio.Event()

    def stop(self) -> None:
        """Close the sockets, so that `serve` returns."""
        self._stop.set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen on the sockets."""
        self.config.ssl = self._tls
        await super().startup(sockets)
        self.listening.set()

    async def main_loop(self) -> None:
        """Wait for `stop`, where uvicorn would poll ten times a second."""
        await self._stop.wait()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the supervisor."""
        yield
