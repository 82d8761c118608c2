"""The operator's own metrics, in a registry of their own."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

import prometheus_client
from prometheus_client.core import GaugeMetricFamily

Decided: TypeAlias = Callable[[], Iterable[tuple[str, str, int]]]
"""Namespace, name and replicas of each service that something was decided for."""


class Telemetry:
    """Counters and timings of the shell."""

    def __init__(self, registry: prometheus_client.CollectorRegistry) -> None:
        self.registry = registry
        self.reconciles = prometheus_client.Counter(
            "slipstream_reconciles", "Reconciles by outcome.", ["outcome"], registry=registry
        )
        self.reconcile_seconds = prometheus_client.Histogram(
            "slipstream_reconcile_seconds",
            "Duration of one reconcile.",
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
            registry=registry,
        )
        self.applies = prometheus_client.Counter(
            "slipstream_applies", "Objects applied, by kind.", ["kind"], registry=registry
        )
        self.deletes = prometheus_client.Counter(
            "slipstream_deletes", "Objects deleted, by kind.", ["kind"], registry=registry
        )
        self.status_writes = prometheus_client.Counter(
            "slipstream_status_writes", "Status updates of users' objects.", registry=registry
        )
        self.queue_depth = prometheus_client.Gauge(
            "slipstream_queue_depth", "Keys that wait for a worker.", registry=registry
        )
        self.leader = prometheus_client.Gauge(
            "slipstream_leader", "1 on the replica that holds the Lease.", registry=registry
        )
        self.services = prometheus_client.Gauge(
            "slipstream_services", "InferenceServices that are watched.", registry=registry
        )
        self.tick_seconds = prometheus_client.Histogram(
            "slipstream_scaling_tick_seconds",
            "Duration of one tick of the scaling loop, queries included.",
            registry=registry,
        )
        self.unknown_queries = prometheus_client.Counter(
            "slipstream_unknown_queries",
            "Queries that Prometheus did not answer.",
            registry=registry,
        )
        self.failed_decisions = prometheus_client.Counter(
            "slipstream_failed_decisions",
            "Decisions that failed, so that the count of replicas was kept; the log says why.",
            registry=registry,
        )
        prometheus_client.ProcessCollector(registry=registry)


class DesiredReplicas:
    """Made when it is asked for: gauges of thousands of services would take much memory, and outlive them."""

    def __init__(self, decided: Decided) -> None:
        self._decided = decided

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the gauge of each service, as prometheus_client asks for it."""
        family = GaugeMetricFamily(
            "slipstream_desired_replicas",
            "Replicas that were decided.",
            labels=["namespace", "service"],
        )
        for namespace, service, desired in self._decided():
            family.add_metric([namespace, service], desired)
        yield family
