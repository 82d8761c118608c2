"""The composition root: the only place that knows all parts.

Every replica watches and keeps its store warm; the Lease gates the workers and the scaling loop, so that a
successor starts with everything it needs to know.
"""

import asyncio
import contextlib
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
from slipstream_operator.shell import handlers, settings, workers
from slipstream_operator.shell.dispatch import Dispatcher
from slipstream_operator.shell.polling import Poller
from slipstream_operator.shell.queue import Queue
from slipstream_operator.shell.route_reconciler import RouteReconciler
from slipstream_operator.shell.router_reconciler import RouterReconciler
from slipstream_operator.shell.scaler import Scaler
from slipstream_operator.shell.service_reconciler import ServiceReconciler
from slipstream_operator.shell.service_states import ServiceStates
from slipstream_operator.shell.store import Store
from slipstream_operator.telemetry import DesiredReplicas, Telemetry

_ALLOCATIONS: Final = 50_000
"""Net allocations between two collections of garbage; Python's default is 700."""
_SWITCH_SECONDS: Final = 0.0005
SYNC_EVERY: Final = 0.2
SYNC_TIMEOUT: Final = 60.0
STUCK_SECONDS: Final = 60.0
"""A loop that did not run for this long makes the process not live."""

logger = logging.getLogger(__name__)


class SystemClock:
    """`ports.Clock` of the real world."""

    def now(self) -> float:
        """Seconds since the epoch."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds since some moment."""
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
        self._telemetry.registry.register(DesiredReplicas(self._states.decided))
        self._synced = False
        self._beat = self._clock.monotonic()

    async def run(self) -> None:
        """Run until SIGTERM or SIGINT; raises TransientError if the Lease is lost or the API can't be reached."""
        api = await cluster.connect()
        async with api:
            runner = await http.serve(
                port=self._config.port,
                registry=self._telemetry.registry,
                live=self._live,
                ready=self._ready,
            )
            try:
                await self._until_stopped(cluster.Cluster(api))
            finally:
                await runner.cleanup()

    async def _until_stopped(self, api: cluster.Cluster) -> None:
        stop, watching_ready = asyncio.Event(), asyncio.Event()
        registry = handlers.registry(store=self._store, queue=self._queue)
        watching = asyncio.ensure_future(
            kopf.operator(
                registry=registry,
                settings=settings.configured(),
                standalone=True,
                clusterwide=True,
                ready_flag=watching_ready,
                stop_flag=stop,
            )
        )
        await watching_ready.wait()
        stopped = self._stop_signals()  # after kopf's own, which can't bear a second signal
        leading = asyncio.ensure_future(self._lead(api))
        pulse = asyncio.ensure_future(self._pulse())
        try:
            await _first_of(watching, leading, pulse, stopped)
        finally:
            self._telemetry.leader.set(0)
            for task in (leading, pulse, stopped):
                task.cancel()
            await asyncio.gather(leading, pulse, stopped, return_exceptions=True)
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
        """Wait until every object that exists now has come by; there is no such signal from the watches."""
        for kind in kinds.WATCHED:
            selector = names.MANAGED_BY_SELECTOR if kind.labeled else None
            async with asyncio.timeout(SYNC_TIMEOUT):
                while not await self._is_complete(api, kind.name, selector):  # noqa: ASYNC110 (polls the API)
                    await asyncio.sleep(SYNC_EVERY)
        self._synced = True
        logger.info("synced", extra={"services": len(self._store.keys())})

    async def _is_complete(self, api: cluster.Cluster, kind: str, selector: str | None) -> bool:
        """Whether all that exists came by; an API server that is busy or still starting is asked again."""
        with contextlib.suppress(errors.Unavailable):
            return self._store.has_seen(kind, await api.list_uids(kind, label_selector=selector))
        return False

    async def _work(self, api: cluster.Cluster) -> None:
        """Run the loops that only the leader runs."""
        logger.info("leading", extra={"identity": self._config.identity})
        self._telemetry.leader.set(1)
        prometheus = metrics.Metrics()
        dispatcher = Dispatcher(
            services=ServiceReconciler(
                store=self._store,
                states=self._states,
                queue=self._queue,
                cluster=api,
                events=events.Events(
                    api, instance=self._config.identity, monotonic=self._clock.monotonic
                ),
                progress=progress.Progress(),
                clock=self._clock,
                telemetry=self._telemetry,
            ),
            routers=RouterReconciler(
                store=self._store,
                states=self._states,
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
        await poller.poll()  # so that what exists is known before anything is decided
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
        """Look at everything now and then, whatever was missed."""
        while True:
            self._queue.add_all(self._store.everything())
            self._telemetry.services.set(len(self._store.keys()))
            await asyncio.sleep(self._config.resync)

    async def _pulse(self) -> None:
        while True:
            self._beat = self._clock.monotonic()
            self._telemetry.services.set(len(self._store.keys()))
            self._telemetry.queue_depth.set(len(self._queue))
            await asyncio.sleep(1)

    def _live(self) -> str | None:
        silent = self._clock.monotonic() - self._beat
        return f"the event loop stood still for {silent:.0f} s" if silent > STUCK_SECONDS else None

    def _ready(self) -> str | None:
        return None if self._synced else "the watches are not complete yet"


async def _first_of(*tasks: "asyncio.Task[Any]") -> None:
    """Wait for the first task to end, and raise what it raised."""
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        await task


def collect_seldom() -> None:
    """Parsed JSON is many objects and no cycles; collecting as often as by default takes a tenth of the time."""
    gc.freeze()
    gc.set_threshold(_ALLOCATIONS)


def switch_often() -> None:
    """While the loop is busy, threads that read Prometheus' answers wait so long for each piece: 5 ms by default."""
    sys.setswitchinterval(_SWITCH_SECONDS)


def run(config: Config) -> int:
    """Run one replica; the exit code."""
    collect_seldom()
    switch_often()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_guarded(App(config).run()))


async def _guarded(running: Coroutine[Any, Any, None]) -> int:
    try:
        await running
    except (errors.TransientError, TimeoutError) as error:
        logger.error("stopping", extra={"error": str(error) or repr(error)})
        return 1
    return 0
