"""Process of a simulated engine: listen, become ready, serve, drain after SIGTERM, exit."""

import asyncio
import contextlib
import signal
import socket

from slipstream_runtime import logs
from slipstream_runtime.recording.journal import Journal
from slipstream_runtime.simulator import (
    api,
    config,
    lifecycle,
    management,
    metrics,
    model,
    pace,
)
from slipstream_runtime.simulator.prefixes import PrefixCache
from slipstream_runtime.web import certificates, server, sockets

_ABORT_SECONDS = 1.0
"""Seconds for aborted requests to end."""


async def serve(
    settings: config.Config,
    *,
    api_socket: socket.socket,
    management_socket: socket.socket,
    started: float,
) -> None:
    """Serve until the end of the drain after SIGTERM or SIGINT; `started` is in the loop's time."""
    loop = asyncio.get_running_loop()
    life = lifecycle.Lifecycle(cold_start=settings.cold_start, started=started)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, life.stop)
    name = settings.model.name
    observer = metrics.Metrics(model_name=name, kv_tokens=settings.kv_tokens)
    engine = model.Engine(settings.parameters())
    paced = pace.Pace(engine, observer=observer)
    journal = Journal(name, clock=loop.time)
    manage = management.Management(
        model_name=name,
        engine=engine,
        paced=paced,
        life=life,
        observer=observer,
        journal=journal,
    )
    answer = api.Api(
        model=name,
        paced=paced,
        life=life,
        observer=observer,
        journal=journal,
        prefixes=PrefixCache(settings.prefix_tokens) if settings.prefix_tokens else None,
        open_metrics=settings.open_metrics,
    )
    servers = [
        server.Server(
            answer, lifespan=False, tls=certificates.server_context(settings.certificate)
        ),
        server.Server(manage, lifespan=False),
    ]
    async with asyncio.TaskGroup() as group:
        background = [group.create_task(paced.run()), group.create_task(life.warm_up())]
        for serving, bound in zip(servers, (api_socket, management_socket), strict=True):
            group.create_task(serving.serve([bound]))
            await serving.listening.wait()
        logs.event(
            "listening",
            api=api_socket.getsockname()[1],
            management=management_socket.getsockname()[1],
        )
        await life.stopped.wait()
        if life.leaving:
            logs.event("leaving", inFlight=life.in_flight)
            await asyncio.sleep(settings.linger_seconds)
        life.drain()
        logs.event("draining", inFlight=life.in_flight)
        if not await life.emptied(within=settings.drain_seconds):
            logs.event("aborting", inFlight=life.in_flight)
            paced.abort()
            await life.emptied(within=_ABORT_SECONDS)
        for serving in servers:
            serving.stop()
        for task in background:
            task.cancel()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.remove_signal_handler(number)


def run(settings: config.Config, *, api_port: int, management_port: int) -> None:
    """Serve on these ports in a new event loop; port 0 takes a free port, which is logged."""
    with (
        contextlib.closing(sockets.bind(api_port)) as api_socket,
        contextlib.closing(sockets.bind(management_port)) as management_socket,
    ):

        async def main() -> None:
            started = asyncio.get_running_loop().time()
            await serve(
                settings,
                api_socket=api_socket,
                management_socket=management_socket,
                started=started,
            )

        asyncio.run(main())
