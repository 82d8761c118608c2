"""The answers of a round, sorted by service as they come, so that only numbers are kept of them."""

import itertools
import math
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Final, TypeAlias

from slipstream_operator.core import objectives
from slipstream_operator.core.observed import Key
from slipstream_operator.core.scaling import queries
from slipstream_operator.core.scaling.signals import (
    PER_POD,
    TOTALS,
    Answers,
    Sample,
    Samples,
    Unknown,
)

Service: TypeAlias = tuple[str, str]
"""Namespace and name."""

_ALONE: Final = Key("", "")
_PLACES: Final = {name: place for place, name in enumerate(PER_POD)}
_NOTHING: Final = array("d", [-1.0] * len(PER_POD))
_HISTOGRAMS: Final = frozenset(
    queries.latency(metric, span)
    for metric in objectives.METRICS
    for span in ("now", *queries.SPANS)
)


def _service(sample: Sample) -> Service:
    labels = sample.labels
    return labels.get("namespace", ""), labels.get("service", "")


class Grouped:
    """Takes in the samples of all services, and gives out what concerns one."""

    def __init__(
        self,
        samples: Samples | None = None,
        *,
        service: Callable[[Sample], Service] = _service,
    ) -> None:
        self._service = service
        self._asked: set[str] = set()
        self._failed: dict[str, Unknown] = {}
        self._pods: defaultdict[Service, dict[str, array[float]]] = defaultdict(dict)
        self._totals: dict[str, dict[Service, float]] = {}
        self._buckets: dict[str, defaultdict[Service, array[float]]] = {}
        self._others: dict[str, defaultdict[Service, list[Sample]]] = {}
        for name, result in (samples or {}).items():
            self.take(name, result)

    def take(self, name: str, part: Iterable[Sample] | Unknown) -> None:
        """Some samples of an answer, or that there is none, whatever came before."""
        self._asked.add(name)
        if isinstance(part, Unknown):
            self._failed[name] = part
            return
        # NB: NaN and infinite are missing.
        known = (sample for sample in part if math.isfinite(sample.value))
        for service, samples in itertools.groupby(known, key=self._service):
            self._note(name, service, samples)

    def keep(self, totals: Mapping[str, dict[Service, float]]) -> None:
        """Numbers of an earlier round, where they were not asked anew."""
        for name in totals.keys() - self._asked:
            self._asked.add(name)
            self._totals[name] = totals[name]

    def totals(self, names: Iterable[str]) -> dict[str, dict[Service, float]]:
        """All services' numbers, to be kept for the next rounds."""
        return {
            name: self._totals.get(name, {})
            for name in names
            if name in self._asked and name not in self._failed
        }

    @property
    def failed(self) -> Mapping[str, Unknown]:
        """The queries that failed, and why."""
        return self._failed

    def of(self, key: Key) -> Answers:
        """What concerns a service."""
        service = key.namespace, key.name
        return Answers(
            asked=self._asked,
            failed=self._failed,
            pods=self._pods.get(service, {}),
            totals={
                name: found[service]
                for name, found in self._totals.items()
                if service in found and name not in self._failed
            },
            histograms={
                name: _histogram(found[service])
                for name, found in self._buckets.items()
                if service in found
            },
            others={
                name: found[service] for name, found in self._others.items() if service in found
            },
        )

    def _note(self, name: str, service: Service, samples: Iterable[Sample]) -> None:
        place = _PLACES.get(name)
        if place is not None:
            rows = self._pods[service]
            for sample in samples:
                pod = sample.labels.get("pod", "")
                row = rows.get(pod)
                if row is None:
                    row = rows[pod] = _NOTHING[:]
                row[place] = sample.value
        elif name in _HISTOGRAMS:
            flat = self._buckets.setdefault(name, defaultdict(_flat))[service]
            for sample in samples:
                flat.append(float(sample.labels["le"]))
                flat.append(sample.value)
        elif name in TOTALS:
            found = self._totals.setdefault(name, {})
            found[service] = sum([sample.value for sample in samples], found.get(service, 0.0))
        else:
            self._others.setdefault(name, defaultdict(list))[service].extend(samples)


def alone(samples: Samples) -> Answers:
    """Of the only service that a Prometheus knows, whatever the labels say."""
    service = _ALONE.namespace, _ALONE.name
    return Grouped(samples, service=lambda _: service).of(_ALONE)


def _flat() -> "array[float]":
    """Upper bounds and counts by turns."""
    return array("d")


def _histogram(flat: "array[float]") -> objectives.Histogram:
    return objectives.histogram(list(zip(flat[::2], flat[1::2], strict=True)))
