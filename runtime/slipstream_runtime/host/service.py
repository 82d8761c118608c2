"""Service of an engine: its application behind the front, from the first connection to the end of the drain."""

import asyncio
import contextlib
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, NoReturn

from slipstream_runtime import logs
from slipstream_runtime.errors import EngineError
from slipstream_runtime.host import front, probe
from slipstream_runtime.host.lifecycle import Lifecycle, Phase
from slipstream_runtime.host.routes import ROUTES, Route
from slipstream_runtime.machine import unused_memory
from slipstream_runtime.recording.journal import Journal
from slipstream_runtime.web import asgi, certificates, server

_LAST_ANSWERS_SECONDS: Final = 0.5
"""Seconds for the application of a dead engine to answer its clients, and then for the front to answer the others."""
_ABORT_SECONDS: Final = 3.0
"""Seconds for aborted requests to end; vLLM needs a step of the engine for it."""


class Service:
    """Application on one socket; all methods belong to the event loop that serves."""

    def __init__(
        self,
        app: asgi.Application,
        *,
        life: Lifecycle,
        api: socket.socket,
        lifespan: bool,
        routes: Mapping[str, Route] = ROUTES,
        guard: front.Guard | None = None,
        certificate: Path | None = None,
        journal: Journal | None = None,
    ) -> None:
        self._life = life
        self._api = api
        self._key = secrets.token_urlsafe()
        self.front = front.Front(
            app, life=life, probe_key=self._key, routes=routes, guard=guard, journal=journal
        )
        self._certificate = certificate
        self.server = server.Server(
            self.front, lifespan=lifespan, tls=certificates.server_context(certificate)
        )

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Accept connections within the context, and close them at its end."""
        task = asyncio.create_task(self.server.serve([self._api]))
        listening = asyncio.create_task(self.server.listening.wait())
        await asyncio.wait({task, listening}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            listening.cancel()
            await task
            raise EngineError("the API server ended before it listened")
        giving_back = asyncio.create_task(unused_memory.keep_giving_back())
        try:
            yield
        finally:
            giving_back.cancel()
            self.server.stop()
            await task

    async def prove(self, request: probe.Probe) -> None:
        """Send a probe as a client would, also before the engine is ready; EngineError if the answer is not valid."""
        port = self._api.getsockname()[1]
        tls = None if self._certificate is None else certificates.only(self._certificate)
        await asyncio.to_thread(probe.run, request, port=port, key=self._key, tls=tls)

    async def run(
        self,
        probes: Sequence[probe.Probe],
        *,
        linger_seconds: float,
        drain_seconds: float,
        before_ready: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Serve from the first request to the end of the drain; EngineError if a probe fails."""
        leaving = self._leaving()
        self._life.enter(Phase.PROBING)
        for request in probes:
            await self.prove(request)
        if before_ready is not None:
            await before_ready()
        self._life.enter(Phase.READY)
        await leaving.wait()
        await asyncio.sleep(linger_seconds)
        self._life.enter(Phase.DRAINING)
        if await self.front.emptied(within=drain_seconds):
            return
        logs.event("aborting", inFlight=self.front.in_flight)
        self.front.abort()
        if not await self.front.emptied(within=_ABORT_SECONDS):
            raise EngineError(f"aborted requests that did not end: {self.front.in_flight}")

    async def fail(self, reason: str, *, cause: BaseException | None = None) -> NoReturn:
        """Refuse new requests and end those in flight, because a dead engine can't drain."""
        self._life.fail(reason)
        await self.front.emptied(within=_LAST_ANSWERS_SECONDS)
        self.front.abort()
        await self.front.emptied(within=_LAST_ANSWERS_SECONDS)
        raise EngineError(reason) from cause

    def _leaving(self) -> asyncio.Event:
        leaving = asyncio.Event()
        loop = asyncio.get_running_loop()

        def notice(_before: Phase, phase: Phase, _took: float) -> None:
            if phase is Phase.LEAVING:
                loop.call_soon_threadsafe(leaving.set)

        self._life.subscribe(notice)
        return leaving
