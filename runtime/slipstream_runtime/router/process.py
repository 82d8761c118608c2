"""Life cycle of a router process: listen, discover engines, serve, drain at SIGTERM."""

import argparse
import asyncio
import contextlib
import gc
import random
import resource
import signal
import socket
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any, Final

from slipstream_runtime import contract, logs
from slipstream_runtime.machine import unused_memory
from slipstream_runtime.router.app import Router, Tls
from slipstream_runtime.router.cluster import discovery
from slipstream_runtime.router.cluster.client import Cluster
from slipstream_runtime.router.cluster.key_reports import KeyReports
from slipstream_runtime.router.proxy.listener import CONNECTIONS
from slipstream_runtime.web import sockets
from slipstream_runtime.web.certificates import Authorities, ServerCertificate

_NEW_OBJECTS: Final = 20_000
"""Objects between two garbage collections, about those of a thousand requests; requests leave hardly any cycles."""
_RESERVED_FILES: Final = 512
"""Open files that clients' requests leave to probes, scrapes, watches and connections that are about to close."""


async def serve(
    options: argparse.Namespace,
    *,
    api: socket.socket | None,
    tls: socket.socket | None,
    management: socket.socket,
) -> None:
    """Run until SIGTERM or SIGINT and the end of the drain."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    chance = random.random
    async with contextlib.AsyncExitStack() as stack:
        if options.config_map is None:
            renew = _renew_nothing
        else:
            cluster = await stack.enter_async_context(Cluster.of_this_pod())
            namespace, name = options.config_map

            async def renew(lease: str) -> None:
                await cluster.renew(namespace=namespace, lease=lease)

        router = Router(
            api=api,
            management=management,
            renew=renew,
            clock=time.monotonic,
            now=time.time,
            chance=chance,
            keys=options.keys,
            token=options.token,
            tls=_with_certificate(tls, options.tls),
            authorities=None
            if options.engine_authorities is None
            else Authorities(options.engine_authorities, clock=time.monotonic),
            engines_host=options.engine_host,
            connections=_connections(),
        )
        await stack.enter_async_context(router)
        tasks: set[asyncio.Task[Any]] = {asyncio.create_task(stop.wait())}
        if options.config_map is None:
            discovery.from_files(router, settings=options.config, endpoints=options.endpoints)
        else:
            following = discovery.follow(
                router,
                cluster,
                namespace=namespace,
                name=name,
                chance=chance,
                own=socket.gethostname(),
            )
            tasks.add(asyncio.create_task(following))

            async def report(text: str) -> None:
                annotations = {contract.KEYS_ANNOTATION: text}
                await cluster.annotate(namespace=namespace, lease=name, annotations=annotations)

            reports = KeyReports(router.key_report, report, clock=time.monotonic)
            tasks.add(asyncio.create_task(reports.run()))
        logs.event(
            "listening",
            **{
                name: bound.getsockname()[1]
                for name, bound in (("api", api), ("tls", tls), ("management", management))
                if bound is not None
            },
        )
        # NB: a router that lost its watches would send requests to engines that are gone, so it exits to be restarted.
        tasks.add(asyncio.create_task(unused_memory.keep_giving_back()))
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        await router.drain(linger=options.linger, grace=max(options.grace, router.longest_drain))
        await _end(tasks)
    logs.event("stopped")


def run(options: argparse.Namespace) -> None:
    """Serve in a new event loop; port 0 takes a free port and logs it."""
    import uvloop  # noqa: PLC0415 (of this process alone)

    # NB: garbage collection pauses all streams, so it runs rarely, and never over the modules.
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS, 20, 50)
    with contextlib.ExitStack() as stack:

        def bind(port: int) -> socket.socket:
            return stack.enter_context(contextlib.closing(sockets.bind(port)))

        api = bind(options.api_port) if options.plain else None
        tls = bind(options.tls_port) if options.tls is not None else None
        management = bind(options.management_port)
        uvloop.run(serve(options, api=api, tls=tls, management=management))


def _with_certificate(bound: socket.socket | None, folder: Path | None) -> Tls | None:
    if bound is None or folder is None:
        return None
    return Tls(bound, ServerCertificate(folder, clock=time.monotonic))


def _connections() -> int:
    """Return the most connections of clients for which this process may open files.

    A request in flight has two connections, and the rest is for probes, metrics and the API server.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard == resource.RLIM_INFINITY:
        return CONNECTIONS
    most = min(CONNECTIONS, (hard - min(_RESERVED_FILES, hard // 4)) // 2)
    if most < CONNECTIONS:
        logs.event("few open files", limit=hard, connections=most, usual=CONNECTIONS)
    return most


async def _renew_nothing(lease: str) -> None:
    raise RuntimeError("no cluster, so there is no Lease to renew")


async def _end(tasks: "Collection[asyncio.Task[Any]]") -> None:
    """Cancel the running tasks; raise the exception of a task that failed by itself."""
    for task in tasks:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(result, Exception):
            raise result
