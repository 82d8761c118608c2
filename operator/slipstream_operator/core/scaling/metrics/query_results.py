"""Results of one round of queries, grouped by service while they arrive, so that only numbers are kept."""

import dataclasses
import math
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Final, TypeAlias

from slipstream_operator.core import histograms, objectives
from slipstream_operator.core.observed import Key
from slipstream_operator.core.scaling.metrics import queries
from slipstream_operator.core.scaling.metrics import samples as border
from slipstream_operator.core.scaling.metrics.queries import PER_POD, TOTALS
from slipstream_operator.core.scaling.metrics.values import RawSample, Sample, Samples, Unknown

Service: TypeAlias = tuple[str, str]
"""Namespace and name."""

_PLACES: Final = {name: place for place, name in enumerate(PER_POD)}
_NOTHING: Final = array("d", [-1.0] * len(PER_POD))
_HISTOGRAMS: Final = frozenset(
    queries.latency(metric, span)
    for metric in objectives.METRICS
    for span in ("now", *queries.SPANS)
)
_MOST_BUCKETS: Final = 256
"""Buckets of one service's histogram that are kept: vLLM's histograms have at most 23."""
_MOST_OTHERS: Final = 4096
"""Samples of one service in one of the other queries that are kept: several for each LoRA adapter."""
_MOST_COMPARED: Final = 65_536
"""Samples of two revisions that share a service's requests: at most some 600 of a router for each."""
_MOST_SCALES: Final = 16
"""Different sets of bucket bounds, of the most services, for which the long ranges are queried."""
_BOUND: Final = b'"le":"'
"""NB: quotes inside a label are escaped, so this occurs nowhere else."""


@dataclasses.dataclass(frozen=True, slots=True)
class ServiceResults:
    """Query results of one service in one round."""

    queried: Set[str]
    """Names of all queries of the round, also of those that failed."""
    failed: Mapping[str, Unknown]
    pods: Mapping[str, Sequence[float]]
    """Pod -> its numbers in the order of PER_POD; missing numbers are negative."""
    totals: Mapping[str, float]
    histograms: Mapping[str, histograms.Histogram]
    others: Mapping[str, Sequence[Sample]]
    dropped: Set[str] = frozenset()
    """Names of queries of which samples of the service were dropped because their values are implausible."""

    def result(self, name: str) -> Sequence[Sample] | None:
        """Return the samples of one of the other queries; None if it failed or was not part of the round."""
        return (
            None if name in self.failed or name not in self.queried else self.others.get(name, ())
        )


class QueryResults:
    """Results of one round for all services, from which the results of one service are taken."""

    def __init__(self) -> None:
        self._queried: set[str] = set()
        self._failed: dict[str, Unknown] = {}
        self._services: dict[bytes, Service] = {}
        """Service by labels, without the bound of a bucket."""
        self._rows: dict[bytes, array[float]] = {}
        """Row by labels; the same rows as in `_pods`."""
        self._pods: defaultdict[Service, dict[str, array[float]]] = defaultdict(dict)
        self._totals: dict[str, dict[Service, float]] = {}
        self._buckets: dict[str, defaultdict[Service, array[float]]] = {}
        self._bounds: dict[str, dict[bytes, float]] = {}
        """Upper bounds of buckets as Prometheus writes them, and their values."""
        self._others: dict[str, defaultdict[Service, list[Sample]]] = {}
        self._dropped: defaultdict[Service, set[str]] = defaultdict(set)
        self.dropped: Counter[str] = Counter()
        """Dropped samples by query. NaN is not counted: it is how Prometheus writes a missing value."""

    def take(self, name: str, part: Sequence[RawSample] | Unknown) -> None:
        """Add a part of the samples of a query, or record that the query failed."""
        self._queried.add(name)
        if isinstance(part, Unknown):
            self._failed[name] = part
            return
        least, largest = border.LEAST, border.largest(name)
        # NB: NaN fails every comparison.
        known = [one for one in part if least <= one[1] <= largest or one[1] == 0]
        if len(known) < len(part):
            self._note_dropped(name, part, most=largest)
        if name in _PLACES:
            self._note_pods(_PLACES[name], known)
        elif name in _HISTOGRAMS:
            self._note_buckets(
                self._buckets.setdefault(name, defaultdict(_flat)),
                self._bounds.setdefault(name, {}),
                known,
            )
        elif name in TOTALS:
            self._note_totals(self._totals.setdefault(name, {}), known)
        else:
            most = _MOST_COMPARED if name == queries.COMPARED else _MOST_OTHERS
            self._note_others(self._others.setdefault(name, defaultdict(list)), known, most=most)

    def keep(self, totals: Mapping[str, dict[Service, float]]) -> None:
        """Add the numbers of an earlier round for queries that are not part of this one."""
        for name in totals.keys() - self._queried:
            self._queried.add(name)
            self._totals[name] = totals[name]

    def totals(self, names: Iterable[str]) -> dict[str, dict[Service, float]]:
        """Return the numbers of all services, to keep for the next rounds."""
        return {
            name: self._totals.get(name, {})
            for name in names
            if name in self._queried and name not in self._failed
        }

    def near(self, name: str, targets: Iterable[float]) -> tuple[str, ...]:
        """Return the bucket bounds around the targets, as Prometheus writes them; empty without results."""
        if name in self._failed:
            return ()
        flats = Counter(flat[::2].tobytes() for flat in self._buckets.get(name, {}).values())
        common = sorted(flats, key=lambda flat: (-flats[flat], flat))[:_MOST_SCALES]
        wanted = queries.near((tuple(sorted(array("d", one))) for one in common), targets)
        bounds = self._bounds.get(name, {})
        texts = sorted((bound, text) for text, bound in bounds.items() if bound in wanted)
        return tuple(text.decode() for _, text in texts)

    @property
    def failed(self) -> Mapping[str, Unknown]:
        """Failed queries, with the reason."""
        return self._failed

    def of(self, key: Key) -> ServiceResults:
        """Return the results of a service."""
        service = key.namespace, key.name
        return ServiceResults(
            queried=self._queried,
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
            dropped=self._dropped.get(service, frozenset()),
        )

    def _note_dropped(self, name: str, samples: Iterable[RawSample], *, most: float) -> None:
        for labels, value in samples:
            if border.is_plausible(value, most=most) or math.isnan(value):
                continue
            self.dropped[name] += 1
            if (found := border.labels(labels)) is not None:
                self._dropped[_service(found)].add(name)

    def _note_pods(self, place: int, samples: Iterable[RawSample]) -> None:
        rows = self._rows
        for labels, value in samples:
            row = rows.get(labels)
            if row is None:
                if (known := border.labels(labels)) is None:
                    continue
                row = rows[labels] = self._row(known)
            row[place] = value

    def _row(self, labels: Mapping[str, str]) -> "array[float]":
        pods = self._pods[_service(labels)]
        return pods.setdefault(labels.get("pod", ""), _NOTHING[:])

    def _note_buckets(
        self,
        found: defaultdict[Service, "array[float]"],
        bounds: dict[bytes, float],
        samples: Iterable[RawSample],
    ) -> None:
        services = self._services
        for labels, value in samples:
            before, _, rest = labels.partition(_BOUND)
            text, _, after = rest.partition(b'"')
            bound = bounds.get(text)
            if bound is None:
                bound = bounds[text] = border.bound(text)
            if math.isnan(bound):
                continue
            others = before + after
            service = services.get(others)
            if service is None:
                if (known := border.labels(labels)) is None:
                    continue
                service = services[others] = _service(known)
            flat = found[service]
            if len(flat) < 2 * _MOST_BUCKETS:
                flat.append(bound)
                flat.append(value)

    def _note_totals(self, found: dict[Service, float], samples: Iterable[RawSample]) -> None:
        services = self._services
        for labels, value in samples:
            service = services.get(labels)
            if service is None:
                if (known := border.labels(labels)) is None:
                    continue
                service = services[labels] = _service(known)
            found[service] = found.get(service, 0.0) + value

    def _note_others(
        self, found: defaultdict[Service, list[Sample]], samples: Iterable[RawSample], *, most: int
    ) -> None:
        for labels, value in samples:
            if (known := border.labels(labels)) is None:
                continue
            of_service = found[_service(known)]
            if len(of_service) < most:
                of_service.append(Sample(known, value))


def alone(samples: Samples) -> ServiceResults:
    """Return the results of a Prometheus with a single service, independent of the labels."""
    known = {
        name: [one for one in result if border.is_plausible(one.value, most=border.largest(name))]
        for name, result in samples.items()
        if not isinstance(result, Unknown)
    }
    pods: dict[str, array[float]] = {}
    for name, place in _PLACES.items():
        for labels, value in known.get(name, ()):
            pods.setdefault(labels.get("pod", ""), _NOTHING[:])[place] = value
    return ServiceResults(
        queried=samples.keys(),
        failed={name: one for name, one in samples.items() if isinstance(one, Unknown)},
        pods=pods,
        totals={
            name: sum([value for _, value in found])
            for name in TOTALS
            if (found := known.get(name))
        },
        histograms={
            name: histograms.from_buckets(
                [
                    (bound, value)
                    for labels, value in found
                    if not math.isnan(bound := border.bound(labels.get("le", "").encode()))
                ]
            )
            for name in _HISTOGRAMS
            if (found := known.get(name))
        },
        others=known,
    )


def _service(labels: Mapping[str, str]) -> Service:
    return labels.get("namespace", ""), labels.get("service", "")


def _flat() -> "array[float]":
    """Return an empty array of alternating upper bounds and counts."""
    return array("d")


def _histogram(flat: "array[float]") -> histograms.Histogram:
    return histograms.from_buckets(list(zip(flat[::2], flat[1::2], strict=True)))
