"""Metrics of the operator, in a registry of their own."""

from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeAlias

import prometheus_client
from prometheus_client.core import GaugeMetricFamily

PerService: TypeAlias = Callable[[], Iterable[tuple[str, str, int]]]
"""Returns namespace, name and a value of each service that has one."""

_RECONCILE_BUCKETS: Final = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30,
)  # fmt: skip
"""Seconds. A reconcile without a change takes a few milliseconds, and one call of the API at most 30 s."""


class Telemetry:
    """Counters and durations of the operator's loops."""

    def __init__(self, registry: prometheus_client.CollectorRegistry) -> None:
        self.registry = registry
        self.reconciles = prometheus_client.Counter(
            "slipstream_reconciles",
            "Reconciles, by outcome: done, retry or error.",
            ["outcome"],
            registry=registry,
        )
        self.reconcile_duration = prometheus_client.Histogram(
            "slipstream_reconcile_duration_seconds",
            "Duration of one reconcile.",
            buckets=_RECONCILE_BUCKETS,
            registry=registry,
        )
        self.queue_depth = prometheus_client.Gauge(
            "slipstream_reconcile_queue_depth",
            "Objects queued for a reconcile.",
            registry=registry,
        )
        self.applied_objects = prometheus_client.Counter(
            "slipstream_applied_objects", "Objects applied, by kind.", ["kind"], registry=registry
        )
        self.deleted_objects = prometheus_client.Counter(
            "slipstream_deleted_objects", "Objects deleted, by kind.", ["kind"], registry=registry
        )
        self.status_writes = prometheus_client.Counter(
            "slipstream_status_writes",
            "Status updates of InferenceServices and InferenceRoutes.",
            registry=registry,
        )
        self.leader = prometheus_client.Gauge(
            "slipstream_leader",
            "1 on the operator's replica that holds the Lease, 0 on the others.",
            registry=registry,
        )
        self.services = prometheus_client.Gauge(
            "slipstream_services", "InferenceServices in the cluster.", registry=registry
        )
        self.tick_duration = prometheus_client.Histogram(
            "slipstream_scaling_tick_duration_seconds",
            "Duration of one tick of the scaling loop, including its Prometheus queries.",
            registry=registry,
        )
        self.query_failures = prometheus_client.Counter(
            "slipstream_query_failures",
            "Prometheus queries of the scaling loop that failed.",
            registry=registry,
        )
        self.decision_failures = prometheus_client.Counter(
            "slipstream_decision_failures",
            "Scaling decisions that failed. The replica count was kept; the log has the cause.",
            registry=registry,
        )
        self.tick_failures = prometheus_client.Counter(
            "slipstream_scaling_tick_failures",
            "Ticks of the scaling loop, or parts for one Prometheus, that failed. Replica counts were kept.",
            registry=registry,
        )
        self.dropped_samples = prometheus_client.Counter(
            "slipstream_dropped_samples",
            "Samples of Prometheus with values out of range, by query. They count as missing.",
            ["query"],
            registry=registry,
        )
        prometheus_client.ProcessCollector(registry=registry)


class ServiceGauges:
    """Collector of gauges of all services: desired replicas, and failed decisions.

    The gauges are built at each scrape: stored ones would need memory for thousands of services, and outlive them.
    """

    def __init__(self, *, decided: PerService, failing: PerService) -> None:
        self._decided = decided
        self._failing = failing

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the gauges, as prometheus_client requires."""
        yield _family(
            "slipstream_desired_replicas", "Desired replicas of a service.", self._decided()
        )
        yield _family(
            "slipstream_decision_failing",
            "1 for each service whose last scaling decision failed.",
            self._failing(),
        )


def _family(
    name: str, description: str, values: Iterable[tuple[str, str, int]]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, description, labels=["namespace", "service"])
    for namespace, service, value in values:
        family.add_metric([namespace, service], value)
    return family
