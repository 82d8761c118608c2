"""Scaling loop: one set of queries for all services of a Prometheus, then one decision for each service."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Sequence
from typing import Final, TypeAlias

from slipstream_operator import ports
from slipstream_operator.core import objectives, tick
from slipstream_operator.core.comparison import collection
from slipstream_operator.core.observed import Key
from slipstream_operator.core.prometheus import Server
from slipstream_operator.core.resolved import Resolved
from slipstream_operator.core.scaling.metrics.query_results import QueryResults
from slipstream_operator.core.scaling.metrics.values import Unknown
from slipstream_operator.core.tick import Changes, Moment, Service
from slipstream_operator.shell.query_schedule import QuerySchedule
from slipstream_operator.shell.queue import Queue
from slipstream_operator.shell.service_states import ServiceState, ServiceStates
from slipstream_operator.shell.store import Store
from slipstream_operator.telemetry import Telemetry

PATIENCE_SECONDS: Final = 5.0
"""Seconds that a tick waits for slow Prometheus servers: as long as between two ticks."""
STATUS_SECONDS: Final = 60.0
"""Seconds after which figures in status are refreshed if nothing else changes; as often as status writes them."""

_Source: TypeAlias = tuple[Server, float]
"""Prometheus, and the rate window of the services."""
_NOWHERE: Final[_Source] = (Server(""), 0.0)
_NO_PROMETHEUS: Final = Unknown("the ServingProfile names no prometheus.url")

_QUERIES_FAILED: Final = Unknown(
    "the operator failed to query Prometheus, and its log has the cause"
)

logger = logging.getLogger(__name__)


class Scaler:
    """Runs the ticks. It changes no object of the cluster: it queues reconciles, which do."""

    def __init__(
        self,
        *,
        store: Store,
        states: ServiceStates,
        queue: Queue,
        metrics: ports.Metrics,
        clock: ports.Clock,
        telemetry: Telemetry,
    ) -> None:
        self._store = store
        self._states = states
        self._queue = queue
        self._metrics = metrics
        self._clock = clock
        self._telemetry = telemetry
        self._schedules: dict[_Source, QuerySchedule] = {}
        self._rounds: dict[_Source, asyncio.Task[None]] = {}
        """Rounds that have not ended."""

    async def run(self, *, every: float) -> None:
        """Tick until cancelled. A tick that takes longer than `every` delays the next one."""
        try:
            while True:
                started = self._clock.monotonic()
                try:
                    with self._telemetry.tick_duration.time():
                        await self.tick()
                except Exception:
                    self._telemetry.tick_failures.inc()
                    logger.exception("scaling tick failed")
                await asyncio.sleep(max(0.0, every - (self._clock.monotonic() - started)))
        finally:
            for each in self._rounds.values():
                each.cancel()

    async def tick(self) -> None:
        """Query every Prometheus, and decide for every service.

        A Prometheus that answers late delays no service of another: its round goes on during the next ticks.
        """
        groups: dict[_Source, list[tuple[Key, ServiceState, Resolved]]] = defaultdict(list)
        for key, service in self._states.known():
            if service.resolved is not None and service.scaling.state is not None:
                source = service.resolved.prometheus or _NOWHERE
                groups[source].append((key, service, service.resolved))
        self._schedules = {at: schedule for at, schedule in self._schedules.items() if at in groups}
        for at, members in groups.items():
            if at not in self._rounds:
                self._rounds[at] = asyncio.create_task(self._decide(*at, members))
        if self._rounds:
            await asyncio.wait(self._rounds.values(), timeout=PATIENCE_SECONDS)
        ended = {at: each for at, each in self._rounds.items() if each.done()}
        self._rounds = {at: each for at, each in self._rounds.items() if at not in ended}
        await asyncio.gather(*ended.values())

    async def _decide(
        self,
        server: Server,
        window: float,
        members: Sequence[tuple[Key, ServiceState, Resolved]],
    ) -> None:
        """Query one Prometheus, and decide for its services."""
        results: QueryResults | Unknown = _NO_PROMETHEUS
        if server.url:
            wanted = [resolved for *_, resolved in members]
            compares = any(service.comparison is not None for _, service, _ in members)
            results = await self._results(server, window, wanted, compares=compares)
        now = self._clock.now()  # the same for all services, so that they share the object
        for key, service, resolved in members:
            self._compare(key, service, results)
            self._tick(key, service, resolved, results, now=now)

    async def _results(
        self, server: Server, window: float, members: list[Resolved], *, compares: bool
    ) -> QueryResults | Unknown:
        """Return the results of the due queries; Unknown if the round failed, which affects no other Prometheus."""
        try:
            return await self._query(server, window, members, compares=compares)
        except Exception:
            self._telemetry.tick_failures.inc()
            logger.exception("queries failed", extra={"url": server.url})
            return _QUERIES_FAILED

    async def _query(
        self, server: Server, window: float, members: list[Resolved], *, compares: bool
    ) -> QueryResults:
        """Run the due queries; latencies are queried only if a service has objectives for them."""
        targets: defaultdict[str, set[float]] = defaultdict(set)
        for resolved in members:
            for objective in resolved.objectives.latency:
                targets[objective.metric].add(objective.target)
        schedule = self._schedules.setdefault(
            (server, window), QuerySchedule(server=server, window=window)
        )
        results = await schedule.run_due(
            self._metrics,
            wanted={one: targets[one] for one in objectives.METRICS if one in targets},
            compares=compares,
            now=self._clock.monotonic(),
        )
        if results.failed:
            self._telemetry.query_failures.inc(len(results.failed))
            logger.warning(
                "queries failed", extra={"url": server.url, "failed": len(results.failed)}
            )
        for query, count in results.dropped.items():
            self._telemetry.dropped_samples.labels(query).inc(count)
        return results

    def _compare(self, key: Key, service: ServiceState, results: QueryResults | Unknown) -> None:
        """Collect the totals of revisions that share the service's requests, and reconcile if there are new ones."""
        before = service.collected
        collected = collection.after_round(
            before,
            service.comparison,
            results if isinstance(results, Unknown) else results.of(key),
            service=key.name,
        )
        service.collect(collected)
        if collected is not None and collected != before:
            self._queue.add(key)

    def _tick(
        self,
        key: Key,
        service: ServiceState,
        resolved: Resolved,
        results: QueryResults | Unknown,
        *,
        now: float,
    ) -> None:
        if service.rollout is None:
            return
        try:
            scaling, changes = tick.tick(
                results if isinstance(results, Unknown) else results.of(key),
                service.scaling,
                Service(key, resolved, service.rollout, tuple(self._store.pods(key))),
                moment=Moment(wall=now, monotonic=self._clock.monotonic()),
            )
        except Exception:
            # NB: invalid metrics of one service's pods must not end the tick of all others.
            logger.exception("scaling decision failed", extra={"key": str(key)})
            self._telemetry.decision_failures.inc()
            scaling, changes = tick.hold(service.scaling)
        service.record(scaling)
        if changes is Changes.MAJOR:
            self._queue.add(key)
        elif changes is Changes.MINOR:
            self._queue.add_later(key, STATUS_SECONDS)
