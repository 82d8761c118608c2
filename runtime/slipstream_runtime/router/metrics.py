"""What the router measures: requests as their clients see them, by service."""

import asyncio
import enum
from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeVar

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric
from prometheus_client.metrics import MetricWrapperBase

from slipstream_runtime import contract

CONTENT_TYPE: Final = prometheus_client.CONTENT_TYPE_LATEST
_SERVICE: Final = contract.SERVICE_LABEL
_LATENCY: Final = contract.LATENCY_BUCKETS

Kind = TypeVar("Kind", bound=MetricWrapperBase)


class Phase(enum.StrEnum):
    """What a request was doing when its client left."""

    WAITING = "waiting"
    ANSWERING = "answering"
    STREAMING = "streaming"


class Metrics:
    """All series of one router, in a registry of their own."""

    def __init__(self) -> None:
        self._all: list[MetricWrapperBase] = []
        self.requests = self._counter(contract.ROUTER_REQUESTS, "Requests let in.", _SERVICE)
        self.responses = self._counter(
            "slipstream_router_responses_total", "Answers by status code.", _SERVICE, "code"
        )
        self.refused = self._counter(
            "slipstream_router_refused_requests_total", "Requests not served.", _SERVICE, "reason"
        )
        self.retries = self._counter(
            "slipstream_router_retries_total", "Requests sent once more.", _SERVICE, "reason"
        )
        self.cancelled = self._counter(
            "slipstream_router_cancelled_requests_total", "Clients that left.", _SERVICE, "phase"
        )
        self.broken = self._counter(
            "slipstream_router_broken_streams_total", "Streams cut by their engine.", _SERVICE
        )
        self.ejections = self._counter(
            "slipstream_router_ejections_total", "Engines left out for a while.", _SERVICE
        )
        self.tokens = self._counter(
            "slipstream_router_tokens_total", "As engines counted them.", _SERVICE, "kind"
        )
        self.wakes = self._counter(
            "slipstream_router_wakes_total", "Renewals of the Lease of demand.", _SERVICE
        )
        self.held = self._gauge(contract.ROUTER_HELD, "Requests that wait here.", _SERVICE)
        self.in_flight = self._gauge(
            contract.ROUTER_IN_FLIGHT, "Requests let in and not over.", _SERVICE
        )
        self.endpoints = self._gauge(
            "slipstream_router_endpoints", "Engines that may get requests.", _SERVICE
        )
        self.connections = self._gauge("slipstream_router_connections", "Connections of clients.")
        self.ttft = self._histogram(contract.ROUTER_TTFT, "Of streams.", _LATENCY[contract.TTFT])
        self.itl = self._histogram(
            contract.ROUTER_ITL, "Between pieces of streams.", _LATENCY[contract.TPOT]
        )
        self.e2e = self._histogram(
            contract.ROUTER_E2E, "Whole requests, as clients see them.", _LATENCY[contract.E2E]
        )
        self.wait = self._histogram(
            "slipstream_router_wait_seconds", "For a place in an engine.", _LATENCY[contract.TTFT]
        )

    async def render(self) -> bytes:
        """The Prometheus text of now; other work of the loop has its turn between any two families."""
        parts = []
        for metric in self._all:
            parts.append(prometheus_client.generate_latest(_Family(metric)))
            await asyncio.sleep(0)
        return b"".join(parts)

    def forget(self, service: str) -> None:
        """Drop the gauges of a service that is gone; what was counted stays."""
        for gauge in (self.held, self.in_flight, self.endpoints):
            gauge.remove(service)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return self._keep(Counter(name, text, labels, registry=None))

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return self._keep(Gauge(name, text, labels, registry=None))

    def _histogram(self, name: str, text: str, buckets: Iterable[float]) -> Histogram:
        return self._keep(Histogram(name, text, (_SERVICE,), buckets=tuple(buckets), registry=None))

    def _keep(self, metric: Kind) -> Kind:
        self._all.append(metric)
        return metric


class ServiceMetrics:
    """The series of one service, found once and not for each request."""

    def __init__(self, metrics: Metrics, service: str) -> None:
        self._metrics = metrics
        self.name = service
        self.requests = metrics.requests.labels(service)
        self.broken = metrics.broken.labels(service)
        self.ejections = metrics.ejections.labels(service)
        self.wakes = metrics.wakes.labels(service)
        self.ttft = metrics.ttft.labels(service)
        self.itl = metrics.itl.labels(service)
        self.e2e = metrics.e2e.labels(service)
        self.wait = metrics.wait.labels(service)
        self.prompt_tokens = metrics.tokens.labels(service, "prompt")
        self.output_tokens = metrics.tokens.labels(service, "output")
        self._codes: dict[int, Counter] = {}

    def watch(
        self, *, held: Callable[[], int], in_flight: Callable[[], int], endpoints: Callable[[], int]
    ) -> None:
        """Export these at each scrape."""
        name, metrics = self.name, self._metrics
        metrics.held.labels(name).set_function(held)
        metrics.in_flight.labels(name).set_function(in_flight)
        metrics.endpoints.labels(name).set_function(endpoints)

    def responded(self, code: int) -> None:
        """A client got an answer."""
        counter = self._codes.get(code)
        if counter is None:
            counter = self._codes[code] = self._metrics.responses.labels(self.name, str(code))
        counter.inc()

    def refused(self, reason: str) -> None:
        """A request was not served."""
        self._metrics.refused.labels(self.name, reason).inc()

    def retried(self, reason: str) -> None:
        """A request was sent once more."""
        self._metrics.retries.labels(self.name, reason).inc()

    def cancelled(self, phase: Phase) -> None:
        """A client left."""
        self._metrics.cancelled.labels(self.name, phase).inc()

    def used(self, prompt: int, output: int) -> None:
        """An engine told what a request took."""
        self.prompt_tokens.inc(prompt)
        self.output_tokens.inc(output)


class _Family(CollectorRegistry):
    """One metric as a registry, without the time at which each series was made."""

    def __init__(self, metric: MetricWrapperBase) -> None:
        super().__init__()
        self._metric = metric

    def collect(self) -> Iterator[Metric]:
        for family in self._metric.collect():
            family.samples = [s for s in family.samples if not s.name.endswith("_created")]
            yield family
