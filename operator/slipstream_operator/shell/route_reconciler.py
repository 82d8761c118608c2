"""Reconciler of one InferenceRoute's status. The router's own reconciler writes the route into its configuration."""

import asyncio
import math
from typing import Final

from slipstream_operator import errors, ports
from slipstream_operator.api import units
from slipstream_operator.core import inference_routes, profiles, prometheus
from slipstream_operator.core.observed import Key, ObservedRouter
from slipstream_operator.core.prometheus import Server
from slipstream_operator.core.scaling.metrics.values import Samples
from slipstream_operator.core.status import QUIET_SECONDS
from slipstream_operator.shell import router_reconciler
from slipstream_operator.shell.service_states import ServiceStates
from slipstream_operator.shell.store import Store
from slipstream_operator.telemetry import Telemetry

MEASURE_EVERY: Final = 60.0
"""Seconds between two rounds of queries, shared by all routes of one Prometheus."""


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
        self._measured: dict[Server, tuple[float, Samples]] = {}
        self._measuring = asyncio.Lock()
        self._written: dict[Key, float] = {}

    async def reconcile(self, key: Key) -> float | None:
        """Reconcile the route; return the seconds until the next reconcile, or None to wait for an event."""
        route = self._store.route(key)
        if route is None or route.deleting:
            self._written.pop(key, None)
            return None
        observed = self._store.router(key.namespace)
        services = router_reconciler.entries(observed, self._states)
        if services is None:
            return 1.0
        status = inference_routes.summarise(
            route,
            observed,
            inference_routes.validate(observed, services),
            listed=self._store.listed(key),
            samples=await self._samples(observed),
            now=units.timestamp(self._clock.now()),
            problem=self._states.router_problem(key.namespace),
        )
        now = self._clock.monotonic()
        if status != route.status and (
            inference_routes.essence(status) != inference_routes.essence(route.status)
            or now - self._written.get(key, -math.inf) >= QUIET_SECONDS
        ):
            await self._cluster.write_status(key, route.uid, status)
            self._written[key] = now
            self._telemetry.status_writes.inc()
        return MEASURE_EVERY

    async def _samples(self, observed: ObservedRouter) -> Samples:
        """Return the samples of all routes, at most a minute old; empty if the profile names no Prometheus."""
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
        async with self._measuring:
            at, samples = self._measured.get(server, (-math.inf, {}))
            if self._clock.monotonic() - at >= MEASURE_EVERY:
                samples = await self._metrics.query(server, inference_routes.queries())
                self._measured[server] = (self._clock.monotonic(), samples)
        return samples
