"""Series under vLLM's names and labels, for the engines that are not vLLM."""

from collections.abc import Callable, Sequence
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

ITERATION_BUCKETS: Final = tuple(float(2**power) for power in (0, *range(3, 15)))

_LABELS: Final = ("model_name", "engine")


class Series:
    """Makes them in a registry of their own, each with the labels of one model and one engine."""

    def __init__(self, model_name: str) -> None:
        self.registry = CollectorRegistry()
        self._values = (model_name, "0")
        self._gauges: dict[str, Gauge] = {}

    def counter(self, name: str) -> Counter:
        """A counter."""
        return Counter(name, name, _LABELS, registry=self.registry).labels(*self._values)

    def counters(self, name: str, label: str, values: Sequence[str]) -> dict[str, Counter]:
        """A counter for each value of one more label, all there from the start."""
        counter = Counter(name, name, (*_LABELS, label), registry=self.registry)
        return {value: counter.labels(*self._values, value) for value in values}

    def histogram(self, name: str, buckets: Sequence[float]) -> Histogram:
        """A histogram with these upper bounds."""
        histogram = Histogram(name, name, _LABELS, registry=self.registry, buckets=buckets)
        return histogram.labels(*self._values)

    def gauge(self, name: str, read: Callable[[], float], **more: str) -> None:
        """A gauge that is read at each scrape; `more` labels tell several of one name apart."""
        if name not in self._gauges:
            self._gauges[name] = Gauge(name, name, (*_LABELS, *more), registry=self.registry)
        self._gauges[name].labels(*self._values, *more.values()).set_function(read)
