"""Composition root: creates and connects all parts of the operator.

Every replica watches and fills its store. Only the holder of the Lease runs the workers and the scaling loop, so that
a successor starts with a full store.
"""

import asyncio
import contextlib
import functools
import gc
import logging
import signal
import sys
import time
from collections.abc import Coroutine
from typing import Any, Final

import kopf
import prometheus_client
import uvloop

from slipstream_operator import errors, kinds, names
from slipstream_operator.adapters import cluster, events, http, lease, metrics, progress
from slipstream_operator.config import Config
from slipstream_operator.shell import handlers, kopf_settings, workers
from slipstream_operator.shell.build_reconciler import BuildReconciler
from slipstream_operator.shell.dispatcher import Dispatcher
from slipstream_operator.shell.polling import Poller
from slipstream_operator.shell.queue import Queue
from slipstream_operator.shell.route_reconciler import RouteReconciler
from slipstream_operator.shell.router_reconciler import RouterReconciler
from slipstream_operator.shell.scaler import Scaler
from slipstream_operator.shell.service_reconciler import ServiceReconciler
from slipstream_operator.shell.service_states import ServiceStates
from slipstream_operator.shell.store import Store
from slipstream_operator.telemetry import ServiceGauges, Telemetry

_ALLOCATIONS: Final = 50_000
"""Net allocations between two garbage collections; Python's default is 700."""
_SWITCH_SECONDS: Final = 0.0005
"""Seconds between two thread switches; Python's default is 0.005."""
SYNC_EVERY: Final = 0.2
"""Seconds between two checks whether the store is complete."""
SYNC_TIMEOUT: Final = 60.0
"""Seconds for one kind, after which the process exits."""
STUCK_SECONDS: Final = 60.0
"""Seconds without a turn of the event loop after which the liveness probe fails."""

logger = logging.getLogger(__name__)


class SystemClock:
    """`ports.Clock` of the operating system."""

    def now(self) -> float:
        """Return seconds since the epoch."""
        return time.time()

    def monotonic(self) -> float:
        """Return seconds since a fixed moment."""
        return time.monotonic()


class App:
    """One replica of the operator."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._clock = SystemClock()
        self._telemetry = Telemetry(prometheus_client.CollectorRegistry())
        self._store = Store()
        self._queue = Queue()
        self._states = ServiceStates()
        self._telemetry.registry.register(
            ServiceGauges(decided=self._states.decided, failing=self._states.failing)
        )
        self._synced = False
        self._last_heartbeat = self._clock.monotonic()

    async def run(self) -> None:
        """Run until SIGTERM or SIGINT. Raise TransientError if the Lease is lost or the API is unreachable."""
        api = await cluster.connect()
        async with api:
            runner = await http.serve(
                port=self._config.port,
                registry=self._telemetry.registry,
                live=self._live,
                ready=self._ready,
            )
            try:
                await self._until_stopped(cluster.Cluster(api, namespaces=self._config.namespaces))
            finally:
                await runner.cleanup()

    async def _until_stopped(self, api: cluster.Cluster) -> None:
        stop, watching_ready = asyncio.Event(), asyncio.Event()
        registry = handlers.registry(store=self._store, queue=self._queue)
        watching = asyncio.ensure_future(
            kopf.operator(
                registry=registry,
                settings=kopf_settings.configured(),
                standalone=True,
                clusterwide=not self._config.namespaces,
                namespaces=self._config.namespaces,
                ready_flag=watching_ready,
                stop_flag=stop,
            )
        )
        await watching_ready.wait()
        stopped = self._stop_signals()  # replaces kopf's handlers, which fail on a second signal
        leading = asyncio.ensure_future(self._lead(api))
        heartbeat = asyncio.ensure_future(self._heartbeat())
        try:
            await _first_of(watching, leading, heartbeat, stopped)
        finally:
            self._telemetry.leader.set(0)
            for task in (leading, heartbeat, stopped):
                task.cancel()
            await asyncio.gather(leading, heartbeat, stopped, return_exceptions=True)
            stop.set()
            with contextlib.suppress(asyncio.CancelledError):
                await watching

    def _stop_signals(self) -> "asyncio.Task[bool]":
        signalled = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, signalled.set)
        return asyncio.create_task(signalled.wait())

    async def _lead(self, api: cluster.Cluster) -> None:
        await self._sync(api)
        await lease.Lease(
            api,
            namespace=self._config.namespace,
            name=names.LEASE,
            identity=self._config.identity,
            monotonic=self._clock.monotonic,
        ).lead(lambda: self._work(api))

    async def _sync(self, api: cluster.Cluster) -> None:
        """Wait until the store has every object that exists now; kopf's watches send no such signal."""
        for kind in kinds.WATCHED:
            selector = names.MANAGED_BY_SELECTOR if kind.labeled else None
            async with asyncio.timeout(SYNC_TIMEOUT):
                while not await self._is_complete(api, kind.name, selector):  # noqa: ASYNC110 (polls the API)
                    await asyncio.sleep(SYNC_EVERY)
        self._synced = True
        logger.info("synced", extra={"services": len(self._store.keys())})

    async def _is_complete(self, api: cluster.Cluster, kind: str, selector: str | None) -> bool:
        """Whether the store has all objects of a kind; False while the API server does not answer."""
        with contextlib.suppress(errors.Unavailable):
            return self._store.has_seen(kind, await api.list_uids(kind, label_selector=selector))
        return False

    async def _work(self, api: cluster.Cluster) -> None:
        """Run the loops that only the leader runs."""
        logger.info("leading", extra={"identity": self._config.identity})
        self._telemetry.leader.set(1)
        prometheus = metrics.Metrics(
            functools.partial(api.read_secret, namespace=self._config.namespace)
        )
        poster = events.Events(api, instance=self._config.identity, monotonic=self._clock.monotonic)
        reader = progress.Progress()
        dispatcher = Dispatcher(
            services=ServiceReconciler(
                store=self._store,
                states=self._states,
                queue=self._queue,
                cluster=api,
                events=poster,
                progress=reader,
                clock=self._clock,
                telemetry=self._telemetry,
            ),
            routers=RouterReconciler(
                store=self._store,
                states=self._states,
                queue=self._queue,
                cluster=api,
                clock=self._clock,
                telemetry=self._telemetry,
            ),
            routes=RouteReconciler(
                store=self._store,
                states=self._states,
                cluster=api,
                metrics=prometheus,
                clock=self._clock,
                telemetry=self._telemetry,
            ),
            builds=BuildReconciler(
                store=self._store,
                cluster=api,
                events=poster,
                progress=reader,
                clock=self._clock,
                telemetry=self._telemetry,
            ),
        )
        scaler = Scaler(
            store=self._store,
            states=self._states,
            queue=self._queue,
            metrics=prometheus,
            clock=self._clock,
            telemetry=self._telemetry,
        )
        poller = Poller(store=self._store, queue=self._queue, cluster=api)
        await poller.poll()  # polled objects must be known before the first decision
        async with asyncio.TaskGroup() as group:
            group.create_task(self._resync())
            group.create_task(poller.run())
            group.create_task(scaler.run(every=self._config.tick))
            group.create_task(
                workers.work(
                    queue=self._queue,
                    dispatcher=dispatcher,
                    telemetry=self._telemetry,
                    workers=self._config.workers,
                )
            )

    async def _resync(self) -> None:
        """Queue everything at intervals, in case an event was missed."""
        while True:
            self._queue.add_all(self._store.everything())
            self._telemetry.services.set(len(self._store.keys()))
            await asyncio.sleep(self._config.resync)

    async def _heartbeat(self) -> None:
        while True:
            self._last_heartbeat = self._clock.monotonic()
            self._telemetry.services.set(len(self._store.keys()))
            self._telemetry.queue_depth.set(len(self._queue))
            await asyncio.sleep(1)

    def _live(self) -> str | None:
        silent = self._clock.monotonic() - self._last_heartbeat
        return f"the event loop was blocked for {silent:.0f} s" if silent > STUCK_SECONDS else None

    def _ready(self) -> str | None:
        return None if self._synced else "the store is not complete yet"


async def _first_of(*tasks: "asyncio.Task[Any]") -> None:
    """Wait for the first task to end, and raise its exception."""
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        await task


def reduce_garbage_collection() -> None:
    """Collect garbage less often. Parsed JSON has many objects and no cycles; the default took 10 % of the CPU time."""
    gc.freeze()
    gc.set_threshold(_ALLOCATIONS)


def shorten_thread_switching() -> None:
    """Shorten the wait of threads that read Prometheus' answers while the event loop is busy."""
    sys.setswitchinterval(_SWITCH_SECONDS)


def run(config: Config) -> int:
    """Run one replica; return the exit code."""
    reduce_garbage_collection()
    shorten_thread_switching()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_guarded(App(config).run()))


async def _guarded(running: Coroutine[Any, Any, None]) -> int:
    try:
        await running
    except (errors.TransientError, TimeoutError) as error:
        logger.error("stopping", extra={"error": str(error) or repr(error)})
        return 1
    return 0
