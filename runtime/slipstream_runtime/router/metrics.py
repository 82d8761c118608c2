"""Metrics of the router: requests as clients see them, by service, and outcomes of routes."""

import asyncio
import enum
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, Protocol, TypeVar

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric
from prometheus_client.core import CounterMetricFamily

from slipstream_runtime import contract
from slipstream_runtime.recording.totals import Totals
from slipstream_runtime.router.recording.flight import CAUSES

CONTENT_TYPE: Final = prometheus_client.CONTENT_TYPE_LATEST
_SERVICE: Final = contract.SERVICE_LABEL
_LATENCY: Final = contract.LATENCY_BUCKETS
_REFUSED: Final = "slipstream_router_refused_requests"
_REFUSED_TEXT: Final = "Requests refused, by reason."


class Described(Protocol):
    """Metric of the client library, or one of the same form."""

    def describe(self) -> Iterable[Metric]:
        """Return its families without values."""
        ...

    def collect(self) -> Iterable[Metric]:
        """Return its families with their values."""
        ...


Kind = TypeVar("Kind", bound=Described)


class Phase(enum.StrEnum):
    """Phase of a request when its client left."""

    WAITING = "waiting"
    ANSWERING = "answering"
    STREAMING = "streaming"


class Metrics:
    """Series of one router. Each family has one small metric per service or route."""

    def __init__(self) -> None:
        self._families: dict[str, dict[str, Described]] = {}
        self.connections = self.keep(
            "", Gauge("slipstream_router_connections", "Connections of clients.", registry=None)
        )
        self._refused = self.keep(
            "", Counter(_REFUSED, _REFUSED_TEXT, (_SERVICE, "reason"), registry=None)
        )

    def keep(self, owner: str, metric: Kind) -> Kind:
        """Export the metric until its owner, a service or a route, is forgotten."""
        [family] = metric.describe()
        self._families.setdefault(family.name, {})[owner] = metric
        return metric

    def forget(self, owner: str) -> None:
        """Remove the owner's metrics."""
        for metrics in self._families.values():
            metrics.pop(owner, None)

    def refused(self, reason: str) -> None:
        """Count a request that was refused before its service was known."""
        self._refused.labels("", reason).inc()

    async def render(self) -> bytes:
        """Return the Prometheus text; yields to the event loop between metrics."""
        parts = []
        for family in [*self._families.values()]:
            head = True
            for metric in [*family.values()]:
                text = prometheus_client.generate_latest(_One(metric))
                parts.append(text if head else _without_head(text))
                head = False
                await asyncio.sleep(0)
        return b"".join(parts)


class ServiceMetrics:
    """Series of one service, looked up once instead of per request."""

    def __init__(self, metrics: Metrics, service: str) -> None:
        self._metrics = metrics
        self.name = service
        self.requests = self._counter(contract.ROUTER_REQUESTS, "Requests admitted.")
        self.broken = self._counter(
            "slipstream_router_broken_streams_total", "Answers that broke off before their end."
        )
        self.ejections = self._counter(
            "slipstream_router_ejections_total", "Engines ejected after repeated failures."
        )
        self.deaths = self._counter(
            "slipstream_router_engine_deaths_total",
            "Engines that broke the connections of requests which they had.",
        )
        self.activations = self._counter(
            "slipstream_router_activation_renewals_total", "Renewals of the activation Lease."
        )
        self.ttft = self._histogram(
            contract.ROUTER_TTFT,
            "Time from a request's arrival to the first token of its stream.",
            _LATENCY[contract.TTFT],
        )
        self.itl = self._histogram(
            contract.ROUTER_ITL, "Time between two chunks of a stream.", _LATENCY[contract.TPOT]
        )
        self.request_duration = self._histogram(
            contract.ROUTER_E2E,
            "Time from a request's arrival to the end of its answer, without errors.",
            _LATENCY[contract.E2E],
        )
        self.queue_duration = self._histogram(
            "slipstream_router_queue_duration_seconds",
            "Time that a request waits for a slot in an engine.",
            _LATENCY[contract.TTFT],
        )
        self._responses = self._counters(
            "slipstream_router_responses_total", "Responses, by status code.", "code"
        )
        self._refused = self._counters(_REFUSED, _REFUSED_TEXT, "reason")
        self._retries = self._counters(
            "slipstream_router_retries_total", "Retries on another engine, by reason.", "reason"
        )
        self._cancelled = self._counters(
            contract.ROUTER_CANCELLED, "Requests whose client disconnected, by phase.", "phase"
        )
        tokens = self._counters(
            "slipstream_router_tokens_total", "Tokens that engines report.", "kind"
        )
        self._prompt_tokens = tokens.labels(service, "prompt")
        self._output_tokens = tokens.labels(service, "output")
        self._codes: dict[int, Counter] = {}

    def watch(
        self,
        *,
        queued: Callable[[], int],
        in_flight: Callable[[], int],
        endpoints: Callable[[], int],
        refused_keys: Callable[[], int],
        times: Totals,
        arms: Described,
    ) -> None:
        """Export values that are read at each scrape."""
        self._metrics.keep(self.name, _Times(self.name, times))
        self._metrics.keep(self.name, arms)
        self._gauge(contract.ROUTER_QUEUED, "Requests in the router's queue.", queued)
        self._gauge(contract.ROUTER_IN_FLIGHT, "Requests admitted and not finished.", in_flight)
        self._gauge("slipstream_router_endpoints", "Engines that take requests.", endpoints)
        self._gauge(
            "slipstream_router_refused_keys",
            "Entries of the Secret with API keys that are no keys.",
            refused_keys,
        )

    def responded(self, code: int) -> None:
        """Count a response."""
        counter = self._codes.get(code)
        if counter is None:
            counter = self._codes[code] = self._responses.labels(self.name, str(code))
        counter.inc()

    def refused(self, reason: str) -> None:
        """Count a refused request."""
        self._refused.labels(self.name, reason).inc()

    def retried(self, reason: str) -> None:
        """Count a retry."""
        self._retries.labels(self.name, reason).inc()

    def cancelled(self, phase: Phase) -> None:
        """Count a client that disconnected."""
        self._cancelled.labels(self.name, phase).inc()

    def used(self, prompt: int, output: int) -> None:
        """Count the tokens that an engine reported for a request."""
        self._prompt_tokens.inc(prompt)
        self._output_tokens.inc(output)

    def _counters(self, name: str, text: str, label: str) -> Counter:
        metric = Counter(name, text, (_SERVICE, label), registry=None)
        return self._metrics.keep(self.name, metric)

    def _counter(self, name: str, text: str) -> Counter:
        metric = Counter(name, text, (_SERVICE,), registry=None)
        return self._metrics.keep(self.name, metric).labels(self.name)

    def _gauge(self, name: str, text: str, read: Callable[[], int]) -> None:
        metric = Gauge(name, text, (_SERVICE,), registry=None)
        self._metrics.keep(self.name, metric).labels(self.name).set_function(read)

    def _histogram(self, name: str, text: str, buckets: Iterable[float]) -> Histogram:
        metric = Histogram(name, text, (_SERVICE,), buckets=tuple(buckets), registry=None)
        return self._metrics.keep(self.name, metric).labels(self.name)


class _Times:
    """Counter of seconds by cause. A request adds to plain numbers, which is cheaper than seven counters."""

    def __init__(self, service: str, totals: Totals) -> None:
        self._service = service
        self._totals = totals

    def describe(self) -> list[Metric]:
        """Return the family without values."""
        return [self._family()]

    def collect(self) -> list[Metric]:
        """Return the family with its values."""
        family = self._family()
        for cause, seconds in zip(CAUSES, self._totals.seconds, strict=True):
            family.add_metric((self._service, cause), seconds)
        return [family]

    def _family(self) -> CounterMetricFamily:
        text = "Time of requests from arrival to end, by cause."
        return CounterMetricFamily(
            contract.ROUTER_TIME, text, labels=(_SERVICE, contract.CAUSE_LABEL)
        )


class RouteMetrics:
    """Series of one route, all exported from the start."""

    def __init__(self, metrics: Metrics, route: str, services: Sequence[str]) -> None:
        self._metrics = metrics
        self._key = f"route {route}"
        answers = self._counter(
            contract.ROUTE_ANSWERS, "Answers that clients of the route got.", ("route", _SERVICE)
        )
        tokens = self._counter(
            contract.ROUTE_TOKENS,
            "Output tokens of answers, kept or discarded.",
            ("route", _SERVICE, contract.OUTCOME_LABEL),
        )
        self._escalations = self._counter(
            "slipstream_router_route_escalations_total",
            "Requests that escalated to the next stage.",
            ("route", "from", "to", "reason"),
        )
        self._route, self._services = route, services
        self._answers = [answers.labels(route, name) for name in services]
        self._kept, self._discarded = (
            [tokens.labels(route, name, outcome) for name in services]
            for outcome in (contract.KEPT, contract.DISCARDED)
        )

    def kept(self, position: int, tokens: int) -> None:
        """Count an answer that a client got from the service at this position."""
        self._answers[position].inc()
        self._kept[position].inc(tokens)

    def discarded(self, position: int, tokens: int) -> None:
        """Count the tokens of an answer that no client got."""
        self._discarded[position].inc(tokens)

    def escalated(self, position: int, reason: str) -> None:
        """Count an escalation from this stage to the next."""
        here, there = self._services[position], self._services[position + 1]
        self._escalations.labels(self._route, here, there, reason).inc()

    def forget(self) -> None:
        """Remove the route's metrics."""
        self._metrics.forget(self._key)

    def _counter(self, name: str, text: str, labels: Sequence[str]) -> Counter:
        return self._metrics.keep(self._key, Counter(name, text, labels, registry=None))


class HookMetrics:
    """Series of one hook of a route, all exported from the start."""

    def __init__(self, metrics: Metrics, route: str, hook: str) -> None:
        self._metrics = metrics
        self._key = f"route {route} {hook}"
        self._labels = (route, hook)
        self._requests = self._counters(
            "slipstream_router_hook_requests_total",
            "Chats that reached a hook: changed, left as they are because they need no change, or failed.",
            contract.OUTCOME_LABEL,
        )
        self._failures = self._counters(
            "slipstream_router_hook_failures_total",
            "Failures of a hook, after which the chat goes on without it, by reason.",
            "reason",
        )
        tokens = self._counters(
            "slipstream_router_hook_tokens_total",
            "Estimated prompt tokens that a hook added to chats or saved, and tokens that summaries took.",
            "kind",
        )
        self.added, self.saved, self.spent = (
            tokens.labels(route, hook, kind) for kind in ("added", "saved", "spent")
        )
        self._summaries = self._counters(
            "slipstream_router_hook_summaries_total",
            "Summaries that chats used: from the cache, shared with another chat, or new.",
            "source",
        )
        duration = Histogram(
            "slipstream_router_hook_duration_seconds",
            "Time that a hook took, with its failures.",
            ("route", "hook"),
            buckets=_LATENCY[contract.TTFT],
            registry=None,
        )
        self.duration = metrics.keep(self._key, duration).labels(route, hook)
        for outcome in ("changed", "unneeded", "failed"):
            self._requests.labels(*self._labels, outcome)

    def outcome(self, outcome: str) -> None:
        """Count a chat."""
        self._requests.labels(*self._labels, outcome).inc()

    def failed(self, reason: str) -> None:
        """Count a failure."""
        self._failures.labels(*self._labels, reason).inc()

    def used(self, source: str, count: int) -> None:
        """Count summaries."""
        if count:
            self._summaries.labels(*self._labels, source).inc(count)

    def forget(self) -> None:
        """Remove the metrics of a hook that is gone."""
        self._metrics.forget(self._key)

    def _counters(self, name: str, text: str, label: str) -> Counter:
        metric = Counter(name, text, ("route", "hook", label), registry=None)
        return self._metrics.keep(self._key, metric)


class _One(CollectorRegistry):
    """Registry of one metric, without the `_created` series."""

    def __init__(self, metric: Described) -> None:
        super().__init__()
        self._metric = metric

    def collect(self) -> Iterator[Metric]:
        for family in self._metric.collect():
            family.samples = [s for s in family.samples if not s.name.endswith("_created")]
            yield family


def _without_head(text: bytes) -> bytes:
    """Remove HELP and TYPE, which come only before the first series of a family."""
    return b"".join(line for line in text.splitlines(keepends=True) if not line.startswith(b"#"))
