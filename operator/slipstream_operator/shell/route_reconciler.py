"""Reconciler of one InferenceRoute's status. The router's own reconciler writes the route into its configuration."""

import asyncio
import math
from typing import Final

from slipstream_operator import errors, ports
from slipstream_operator.api import units
from slipstream_operator.core import inference_routes, profiles, prometheus, status
from slipstream_operator.core.observed import Key, ObservedRouter, Parent
from slipstream_operator.core.prometheus import Server
from slipstream_operator.core.scaling.metrics.values import Samples
from slipstream_operator.core.status import QUIET_SECONDS
from slipstream_operator.shell import router_reconciler
from slipstream_operator.shell.service_states import ServiceStates
from slipstream_operator.shell.store import Store
from slipstream_operator.telemetry import Telemetry

MEASURE_EVERY: Final = 60.0
"""Seconds between two rounds of queries, shared by all routes of one Prometheus."""
PATIENCE_SECONDS: Final = 2.0
"""Seconds for which reconciles wait for a round. Workers are shared, and a slow Prometheus must not hold them all."""


class RouteReconciler:
    """Writes the status of each InferenceRoute."""

    def __init__(
        self,
        *,
        store: Store,
        states: ServiceStates,
        cluster: ports.Cluster,
        metrics: ports.Metrics,
        clock: ports.Clock,
        telemetry: Telemetry,
    ) -> None:
        self._store = store
        self._states = states
        self._cluster = cluster
        self._metrics = metrics
        self._clock = clock
        self._telemetry = telemetry
        self._measured: dict[Server, Samples] = {}
        self._rounds: dict[Server, tuple[float, asyncio.Task[None]]] = {}
        """Start of the last round of queries, and the round."""
        self._written: dict[Key, float] = {}

    async def reconcile(self, key: Key) -> float | None:
        """Reconcile the route; return the seconds until the next reconcile, or None to wait for an event.

        A fault in it is reported in the object's status, and raised.
        """
        route = self._store.route(key)
        if route is None or route.deleting:
            self._written.pop(key, None)
            return None
        try:
            return await self._reconcile(key, route)
        except errors.TransientError:
            raise
        except Exception as fault:
            new = status.with_fault(route, fault, now=units.timestamp(self._clock.now()))
            if new != route.status:
                await self._cluster.write_status(key, route.uid, new)
                self._telemetry.status_writes.inc()
            raise

    async def _reconcile(self, key: Key, route: Parent) -> float:
        observed = self._store.router(key.namespace)
        services = router_reconciler.entries(observed, self._states)
        if services is None:
            return 1.0
        new = inference_routes.summarise(
            route,
            observed,
            inference_routes.validate(observed, services),
            listed=self._store.listed(key),
            samples=await self._samples(observed),
            now=units.timestamp(self._clock.now()),
            problem=self._states.router_problem(key.namespace),
        )
        now = self._clock.monotonic()
        if new != route.status and (
            inference_routes.essence(new) != inference_routes.essence(route.status)
            or now - self._written.get(key, -math.inf) >= QUIET_SECONDS
        ):
            await self._cluster.write_status(key, route.uid, new)
            self._written[key] = now
            self._telemetry.status_writes.inc()
        return MEASURE_EVERY

    async def _samples(self, observed: ObservedRouter) -> Samples:
        """Return the samples of all routes; empty if the profile names no Prometheus.

        They are at most a minute old, or the last ones while Prometheus does not answer.
        """
        try:
            _, profile = profiles.select(
                observed.profiles,
                namespace=observed.namespace,
                labels=observed.namespace_labels,
            )
        except errors.PermanentError:
            return {}
        found = prometheus.server(profile)
        if found is None:
            return {}
        server, _ = found
        now = self._clock.monotonic()
        at, last = self._rounds.get(server, (-math.inf, None))
        if last is None or (last.done() and now - at >= MEASURE_EVERY):
            at, last = now, asyncio.create_task(self._measure(server))
            self._rounds[server] = at, last
        if not last.done() and now - at < PATIENCE_SECONDS:
            await asyncio.wait([last], timeout=PATIENCE_SECONDS)
        if last.done():
            last.result()
        return self._measured.get(server, {})

    async def _measure(self, server: Server) -> None:
        self._measured[server] = await self._metrics.query(server, inference_routes.queries())
