"""Metrics that every engine exports beside vLLM's, read from the live objects at each scrape.

Their names are in `contract`; metrics of one engine only are in the `metrics` module of its folder."""

from collections.abc import Iterable, Mapping

import prometheus_client
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from slipstream_runtime import contract
from slipstream_runtime.host import status
from slipstream_runtime.host.front import Front
from slipstream_runtime.host.lifecycle import Lifecycle
from slipstream_runtime.recording.metrics import times_family
from slipstream_runtime.recording.recorder import Recorder

CONTENT_TYPE = prometheus_client.CONTENT_TYPE_LATEST


class Metrics(Collector):
    """Collector of these metrics; the engine's own registry is added once the engine is ready.

    NB: the engine's series stay hidden until the warm-up, the first completion, is over. A series that begins after it
    shows no increase for it, so no rate() contains the latency of the warm-up.
    """

    def __init__(self, life: Lifecycle) -> None:
        self._life = life
        self._registry = CollectorRegistry()
        self._registry.register(self)
        self._front: Front | None = None
        self._engine: CollectorRegistry | None = None
        self._adapters: Mapping[str, status.AdapterStatus] = {}
        self._kv_tokens: int | None = None
        self._sequences: int | None = None

    @property
    def in_flight(self) -> int:
        """Number of requests whose response is not complete."""
        return self._front.in_flight if self._front else 0

    @property
    def recorder(self) -> Recorder | None:
        """Recorder of requests; None before the engine serves."""
        return self._front.journal.recorder if self._front else None

    def watch(self, front: Front, *, engine: CollectorRegistry) -> None:
        """Export this front, and the engine's registry."""
        self._front, self._engine = front, engine

    def add(self, collector: Collector) -> None:
        """Export one more collector."""
        self._registry.register(collector)

    def set_kv_capacity(self, tokens: int | None) -> None:
        """Export this capacity of the KV cache."""
        self._kv_tokens = tokens

    def set_sequences(self, most: int) -> None:
        """Export this number of sequences that run at once."""
        self._sequences = most

    def watch_adapters(self, adapters: Mapping[str, status.AdapterStatus]) -> None:
        """Export these adapters, which may change."""
        self._adapters = adapters

    def collect(self) -> Iterable[Metric]:
        """Return the present values."""
        seconds = GaugeMetricFamily(
            contract.PHASE_DURATION,
            "Seconds that the engine has spent in a phase.",
            labels=["phase"],
        )
        for phase, value in self._life.seconds().items():
            seconds.add_metric([phase.value], value)
        refused = CounterMetricFamily(
            contract.REFUSED, "Requests refused before an answer began.", labels=["reason"]
        )
        for reason, count in (self._front.refused if self._front else {}).items():
            refused.add_metric([reason], count)
        in_flight = GaugeMetricFamily(
            contract.IN_FLIGHT, "Requests whose response is not complete.", value=self.in_flight
        )
        queued = GaugeMetricFamily(
            contract.QUEUED,
            "Requests that wait in front of the engine and are not in its own queue.",
            value=self._front.queued if self._front else 0,
        )
        draining = GaugeMetricFamily(
            contract.DRAINING, "1 once the engine is shutting down.", value=self._life.leaving
        )
        loaded = GaugeMetricFamily(
            contract.ADAPTER_LOADED,
            "1 if clients can use the LoRA adapter, 0 if it could not be loaded.",
            labels=[contract.ADAPTER_LABEL],
        )
        for name, adapter in dict(self._adapters).items():
            loaded.add_metric([name], adapter.loaded)
        capacity = GaugeMetricFamily(
            contract.KV_CAPACITY, "Tokens that the KV cache of one data-parallel engine holds."
        )
        if self._kv_tokens is not None:
            capacity.add_metric([], self._kv_tokens)
        sequences = GaugeMetricFamily(
            contract.SEQUENCES, "Sequences that run at once, in all data-parallel engines together."
        )
        if self._sequences is not None:
            sequences.add_metric([], self._sequences)
        times = times_family(self._front.journal if self._front else None)
        return (seconds, in_flight, queued, draining, refused, loaded, capacity, sequences, times)

    def render(self) -> bytes:
        """Return the text that Prometheus scrapes."""
        text = prometheus_client.generate_latest(self._registry)
        if self._engine is not None and self._life.has_served:
            text += prometheus_client.generate_latest(self._engine)
        return text
