"""The life of a simulator process: listen, become ready, serve, drain at SIGTERM, exit."""

import asyncio
import contextlib
import json
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn

from slipstream_runtime.simulator import (
    api,
    asgi,
    config,
    lifecycle,
    management,
    metrics,
    model,
    pace,
)

_LOG = logging.getLogger(__name__)
_ABORT_SECONDS = 1.0
_BACKLOG = 2048

Application = Callable[[asgi.Scope, asgi.Receive, asgi.Send], object]


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers and its ten wake-ups a second."""

    def __init__(self, application: Application, stop: asyncio.Event) -> None:
        super().__init__(
            uvicorn.Config(
                application,
                http="httptools",
                ws="none",
                lifespan="off",
                interface="asgi3",
                log_config=None,
                access_log=False,
                server_header=False,
                date_header=False,
                timeout_keep_alive=75,
                timeout_graceful_shutdown=2,
            )
        )
        self._stop = stop

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def main_loop(self) -> None:
        await self._stop.wait()


def listen(port: int) -> socket.socket:
    """A socket on all addresses of the pod, IPv6 too where there is any."""
    dual = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if dual else socket.AF_INET
    return socket.create_server(("", port), family=family, backlog=_BACKLOG, dualstack_ipv6=dual)


async def serve(
    settings: config.Config,
    *,
    api_socket: socket.socket,
    management_socket: socket.socket,
    started: float,
) -> None:
    """Run until SIGTERM or SIGINT and the end of the drain; `started` is in the loop's time."""
    loop = asyncio.get_running_loop()
    life = lifecycle.Lifecycle(cold_start=settings.cold_start, started=started)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, life.drain)
    name = settings.model.name
    observer = metrics.Metrics(model_name=name, kv_tokens=settings.kv_tokens)
    engine = model.Engine(settings.parameters())
    paced = pace.Pace(engine, observer=observer)
    manage = management.Management(
        model_name=name, engine=engine, paced=paced, life=life, observer=observer
    )
    answer = api.Api(model=name, paced=paced, life=life, observer=observer)
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        background = [group.create_task(paced.run()), group.create_task(life.warm_up())]
        group.create_task(_Server(answer, stop).serve([api_socket]))
        group.create_task(_Server(manage, stop).serve([management_socket]))
        _log(
            "listening",
            api=api_socket.getsockname()[1],
            management=management_socket.getsockname()[1],
        )
        await life.draining.wait()
        _log("draining", inFlight=life.in_flight)
        if not await life.emptied(within=settings.drain_seconds):
            _log("aborting", inFlight=life.in_flight)
            paced.abort()
            await life.emptied(within=_ABORT_SECONDS)
        stop.set()
        for task in background:
            task.cancel()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.remove_signal_handler(number)


def run(settings: config.Config, *, api_port: int, management_port: int) -> None:
    """Serve on these ports in a loop of its own; port 0 takes a free one and logs it."""
    with (
        contextlib.closing(listen(api_port)) as api_socket,
        contextlib.closing(listen(management_port)) as management_socket,
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


def _log(event: str, **fields: object) -> None:
    _LOG.info(json.dumps({"event": event, **fields}))
