"""Totals of the revisions that share a service's requests, from the samples of its routers.

Each router process counts from the moment at which the weights changed, and labels its counters with that time. So a
restart is another series, and no counter is ever reset. A router that vanishes keeps its last totals. A round without
samples changes nothing but `current`: missing totals hold a rollout, and never count as zero.
"""

import dataclasses
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

from slipstream_operator import names
from slipstream_operator.core.comparison import effects, strata
from slipstream_operator.core.comparison.effects import Ticks
from slipstream_operator.core.comparison.strata import Strata
from slipstream_operator.core.comparison.totals import Totals
from slipstream_operator.core.scaling.metrics import queries
from slipstream_operator.core.scaling.metrics.query_results import ServiceResults
from slipstream_operator.core.scaling.metrics.values import Sample, Unknown
from slipstream_runtime import contract

REQUESTS: Final = contract.COMPARED_REQUESTS
TAIL: Final = "-p95"
"""Suffix of the measure that counts values beyond the stable revision's 95th percentile."""
_BEYOND: Final = 0.05
"""Share of the stable revision's values beyond the bound of a tail, at most."""
_FOR_A_TAIL: Final = 100
"""Values of the stable revision from which the bound of a tail is chosen: a percentile of fewer is too uncertain."""
_SKEW_SECONDS: Final = 60.0
"""Seconds by which the clocks of two machines may differ, as in scaling ticks."""
LOGARITHMS: Final = (
    contract.COMPARED_TTFT,
    contract.COMPARED_TPOT,
    contract.COMPARED_E2E,
    contract.COMPARED_OUTPUT,
)
LATENCIES: Final = LOGARITHMS[:3]

Process: TypeAlias = tuple[str, str]
"""Pod of a router, and the time at which it began its totals."""


class Series(NamedTuple):
    """One series of a revision in one router."""

    measure: str
    statistic: str
    stratum: str
    bound: str


Values: TypeAlias = Mapping[Series, float]


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Weights of two revisions that are compared, and the time since which they hold."""

    stable: str
    """Hash of the revision, like the other."""
    canary: str
    weights: Mapping[str, int]
    """Percent of the requests, by hash."""
    since: float
    """Seconds since the epoch."""


@dataclasses.dataclass(frozen=True)
class Tail:
    """Bound beyond which values are counted, and the counts at the moment of its choice, by revision."""

    bound: float
    before: Mapping[str, Totals]


@dataclasses.dataclass(frozen=True)
class Collected:
    """Totals of both revisions since the beginning of a comparison."""

    comparison: Comparison
    routers: Mapping[Process, Mapping[str, Values]] = dataclasses.field(default_factory=dict)
    """Newest values of each revision in each router process."""
    sums: Mapping[str, Values] = dataclasses.field(default_factory=dict, compare=False)
    """Sums of all routers by revision."""
    ticks: Mapping[tuple[str, str], Ticks] = dataclasses.field(default_factory=dict)
    """Residuals by revision and measure, one for each round with new values."""
    tails: Mapping[str, Tail] = dataclasses.field(default_factory=dict)
    current: bool = False
    """Whether the newest round had the totals of both revisions."""

    def totals(self) -> Mapping[str, Mapping[str, Totals]]:
        """Return what `judgement.judge` compares, by revision and measure; nothing while the totals are not current.

        Logarithms are those of comparable requests, as in `strata`, and count for as many independent values as they
        are worth, as in `effects`.
        """
        if not self.current:
            return {}
        stable, canary = self.comparison.stable, self.comparison.canary
        sums = self.sums
        found: dict[str, dict[str, Totals]] = {
            revision: _counts(values) for revision, values in sums.items()
        }
        for measure in LOGARITHMS:
            arms = [_strata(sums[revision], measure) for revision in (stable, canary)]
            matched = strata.match(*arms)
            if matched is None:
                continue
            variances = strata.variances(arms[0])
            apart, near = (
                _correlation([*sums.values()], measure, statistics, variances)
                for statistics in (contract.APART, contract.NEAR)
            )
            for revision, totals in zip((stable, canary), matched, strict=True):
                prior = math.inf
                if measure in LATENCIES:
                    prior = effects.of_replicas(
                        totals.count / self._replicas(revision),
                        apart=apart,
                        near=near,
                        overlap=_load(sums[revision]),
                    )
                ticks = self.ticks.get((revision, measure), ())
                worth = min(prior, effects.of_rounds(ticks, variance=totals.variance))
                worth = 1.0 if math.isinf(worth) else worth
                found[revision][measure] = totals.scaled(1.0 / worth)
                tail = self.tails.get(measure)
                if tail is not None:
                    beyond = _beyond(sums[revision], measure, tail.bound) - tail.before[revision]
                    found[revision][measure + TAIL] = beyond.scaled(1.0 / worth)
        return found

    def _replicas(self, revision: str) -> float:
        """Return the replicas of a revision that ended requests; each router sees all of them."""
        found = [values[revision].get(_REPLICAS, 1.0) for values in self.routers.values()]
        return max([1.0, *found])


def after_round(
    before: Collected | None,
    comparison: Comparison | None,
    results: ServiceResults | Unknown,
    *,
    service: str,
) -> Collected | None:
    """Return the totals after a round of queries; None if nothing is compared."""
    if comparison is None:
        return None
    if before is None or before.comparison != comparison:
        before = Collected(comparison)
    samples = None if isinstance(results, Unknown) else results.result(queries.COMPARED)
    return collect(before, samples or (), service=service)


def collect(before: Collected, samples: Sequence[Sample], *, service: str) -> Collected:
    """Return the totals with these samples, which are none if the query failed."""
    found = _processes(samples, before.comparison, service)
    if not found:
        return dataclasses.replace(before, current=False)
    routers = dict(before.routers)
    for process, arms in found.items():
        if _count(arms) >= _count(routers.get(process, {})):
            # NB: of two copies of a router's series, the older one may be the only one that is left.
            routers[process] = arms
    after = dataclasses.replace(before, routers=routers, current=True)
    if after == before:
        return before
    sums = {revision: _sums(routers.values(), revision) for revision in before.comparison.weights}
    after = dataclasses.replace(after, sums=sums)
    return dataclasses.replace(after, ticks=_ticks(before, after), tails=_tails(after))


def _sums(routers: Iterable[Mapping[str, Values]], revision: str) -> Values:
    """Return the sums of all routers."""
    sums: defaultdict[Series, float] = defaultdict(float)
    for values in routers:
        for series, value in values[revision].items():
            sums[series] += value
    return sums


def _processes(
    samples: Sequence[Sample], comparison: Comparison, service: str
) -> dict[Process, dict[str, Values]]:
    """Return the values under the present weights of each router process that has both revisions."""
    revisions = {names.revision_name(service, each): each for each in comparison.weights}
    found: defaultdict[Process, dict[str, dict[Series, float]]] = defaultdict(dict)
    for labels, value in samples:
        revision = revisions.get(labels.get(contract.REVISION_LABEL, ""), "")
        if labels.get(contract.WEIGHT_LABEL) != str(comparison.weights.get(revision)):
            continue
        since = labels.get(contract.SINCE_LABEL, "")
        began = _number(since)
        if not began >= comparison.since - _SKEW_SECONDS or not math.isfinite(value):
            continue
        series = Series(
            labels.get(contract.MEASURE_LABEL, ""),
            labels.get(contract.STATISTIC_LABEL, ""),
            labels.get(contract.STRATUM_LABEL, ""),
            labels.get("le", ""),
        )
        found[labels.get("pod", ""), since].setdefault(revision, {})[series] = value
    return {
        process: {revision: _filled(values) for revision, values in arms.items()}
        for process, arms in found.items()
        if all(_REQUESTS in arms.get(revision, {}) for revision in comparison.weights)
    }


_REQUESTS: Final = Series(REQUESTS, contract.COUNT, "", "")
_REPLICAS: Final = Series(contract.COMPARED_REPLICAS, contract.COUNT, "", "")


def _count(arms: Mapping[str, Values]) -> float:
    """Return the requests of all revisions."""
    return sum([values.get(_REQUESTS, 0.0) for values in arms.values()])


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _filled(values: Values) -> Values:
    """Add the buckets without a series: of the first ones, which are empty, and of the last ones, which are full.

    So the sums of several routers don't depend on the buckets that each of them fills.
    """
    found = dict(values)
    for measure in LATENCIES:
        bounds = _bounds(measure)
        total = sum(
            [v for s, v in values.items() if s.measure == measure and s.statistic == contract.COUNT]
        )
        below = 0.0
        for bound in bounds:
            series = Series(measure, contract.WITHIN, "", str(bound))
            below = values.get(series, total if below else 0.0)
            found[series] = below
    return found


def _bounds(measure: str) -> tuple[float, ...]:
    return contract.LATENCY_BUCKETS[_METRICS[measure]]


_METRICS: Final = {
    contract.COMPARED_TTFT: contract.TTFT,
    contract.COMPARED_TPOT: contract.TPOT,
    contract.COMPARED_E2E: contract.E2E,
}


def _counts(sums: Values) -> dict[str, Totals]:
    """Return the shares of requests that each count has."""
    requests = sums[_REQUESTS]
    found = {REQUESTS: Totals(requests, requests, requests)}
    for measure in (contract.COMPARED_ERRORS, contract.COMPARED_CANCELLED):
        hits = sums.get(Series(measure, contract.COUNT, "", ""), 0.0)
        found[measure] = Totals(requests, hits, hits)
    reasons = {
        series.measure: value
        for series, value in sums.items()
        if series.measure.startswith(contract.COMPARED_FINISHED)
    }
    answers = sum(reasons.values())
    return found | {measure: Totals(answers, value, value) for measure, value in reasons.items()}


def _strata(sums: Values, measure: str) -> Strata:
    """Return the totals of a measure's logarithms in each stratum."""
    bounds = {
        series.stratum
        for series in sums
        if series.measure == measure and series.statistic == contract.COUNT and series.stratum
    }
    found = {}
    for bound in bounds:
        count, total, squares = (
            sums.get(Series(measure, statistic, bound, ""), 0.0)
            for statistic in contract.STATISTICS
        )
        if count > 0:
            found[_number(bound)] = Totals(count, total, squares)
    return found


def _correlation(
    arms: Sequence[Values],
    measure: str,
    statistics: tuple[str, str],
    variances: Mapping[float, float],
) -> float:
    """Return the correlation of successive answers of a replica."""
    expected = steps = 0.0
    for sums in arms:
        for bound, variance in variances.items():
            pairs, squares = (
                sums.get(Series(measure, statistic, f"{bound:g}", ""), 0.0)
                for statistic in statistics
            )
            expected += pairs * variance
            steps += squares
    return effects.correlation(steps, expected=expected)


def _load(sums: Values) -> float:
    """Return the mean requests in flight of a replica."""
    found = _strata(sums, contract.COMPARED_TPOT)
    count = sum([totals.count for totals in found.values()])
    return sum([bound * totals.count for bound, totals in found.items()]) / count if count else 1.0


def _beyond(sums: Values, measure: str, bound: float) -> Totals:
    """Return the number of values, and of those beyond the bound."""
    count = sum([totals.count for totals in _strata(sums, measure).values()])
    hits = count - sums[Series(measure, contract.WITHIN, "", str(bound))]
    return Totals(count, hits, hits)


def _tails(after: Collected) -> Mapping[str, Tail]:
    """Choose the bounds of tails for which the stable revision has enough values now. Later values count."""
    missing = [measure for measure in LATENCIES if measure not in after.tails]
    if not missing:
        return after.tails
    sums, found = after.sums, dict(after.tails)
    for measure in missing:
        for bound in _bounds(measure):
            stable = _beyond(sums[after.comparison.stable], measure, bound)
            if stable.count < _FOR_A_TAIL:
                break
            if stable.total <= _BEYOND * stable.count:
                before = {each: _beyond(sums[each], measure, bound) for each in sums}
                found[measure] = Tail(bound, before)
                break
    return found


def _ticks(before: Collected, after: Collected) -> Mapping[tuple[str, str], Ticks]:
    """Add the residuals of the values that are new in this round."""
    found = dict(before.ticks)
    for measure in LOGARITHMS:
        reference = _strata(after.sums[after.comparison.stable], measure)
        means = {bound: totals.mean for bound, totals in reference.items()}
        for revision, sums in after.sums.items():
            old = _strata(before.sums.get(revision, {}), measure)
            new = _strata(sums, measure)
            tick = effects.residual(
                {bound: totals - old.get(bound, Totals()) for bound, totals in new.items()}, means
            )
            if tick is not None:
                key = revision, measure
                found[key] = effects.appended(found.get(key, ()), tick)
    return found
