"""Metrics with vLLM's names and labels, for engines other than vLLM."""

from collections.abc import Callable, Sequence
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

ITERATION_BUCKETS: Final = tuple(float(2**power) for power in (0, *range(3, 15)))
"""Upper bounds in tokens of vLLM's histogram of tokens per engine step."""

_LABELS: Final = ("model_name", "engine")


class Series:
    """Factory of metrics in a new registry, with the labels of one model and one engine."""

    def __init__(self, model_name: str) -> None:
        self.registry = CollectorRegistry()
        self._values = (model_name, "0")
        self._gauges: dict[str, Gauge] = {}

    def counter(self, name: str) -> Counter:
        """Return a new counter."""
        return Counter(name, name, _LABELS, registry=self.registry).labels(*self._values)

    def counters(self, name: str, label: str, values: Sequence[str]) -> dict[str, Counter]:
        """Return a counter for each value of one more label; all are exported from the start."""
        counter = Counter(name, name, (*_LABELS, label), registry=self.registry)
        return {value: counter.labels(*self._values, value) for value in values}

    def histogram(self, name: str, buckets: Sequence[float]) -> Histogram:
        """Return a new histogram with these upper bounds."""
        histogram = Histogram(name, name, _LABELS, registry=self.registry, buckets=buckets)
        return histogram.labels(*self._values)

    def gauge(self, name: str, read: Callable[[], float], **more: str) -> None:
        """Export a gauge that is read at each scrape; `more` are additional labels."""
        if name not in self._gauges:
            self._gauges[name] = Gauge(name, name, (*_LABELS, *more), registry=self.registry)
        self._gauges[name].labels(*self._values, *more.values()).set_function(read)
