"""Prometheus of a scenario: scrapes with their faults, and results of a policy's queries."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from slipstream_operator.core.scaling.metrics.promql import Expression
from slipstream_operator.core.scaling.metrics.values import Sample, Unknown
from slipstream_simulator import traffic
from slipstream_simulator.events import Event
from slipstream_simulator.kernel.layout import Floats
from slipstream_simulator.prometheus import catalogue, evaluation
from slipstream_simulator.prometheus.catalogue import Field
from slipstream_simulator.prometheus.table import Table
from slipstream_simulator.scenarios import Scenario

NAMESPACE: Final = "default"
_NOISE, _LOSS = 101, 102
_DRAWS: Final = 1024
_REFRESH_SECONDS: Final = 60.0


@dataclass(frozen=True)
class Target:
    """Pod that is scraped."""

    name: str
    index: int
    """Its index in the order of creation, from which its random numbers follow."""


class Prometheus:
    """Prometheus server for the queries of one policy."""

    def __init__(self, scenario: Scenario, queries: Mapping[str, Expression], *, seed: int) -> None:
        self._scenario, self._seed = scenario, seed
        scrape = scenario.metrics.scrape
        rows = math.ceil(scenario.duration / scrape) + 2
        window = max(map(evaluation.longest, queries.values()), default=0.0)
        keep = math.ceil(max(window, evaluation.STALE_SECONDS) / scrape) + 1
        wanted = set().union(*map(evaluation.metrics, queries.values()))
        self._fields = _wanted(catalogue.engine(scenario.engine.parameters()), wanted)
        router = _wanted(catalogue.ROUTER, wanted) if scenario.router else ()
        self._engines = Table(self._fields, rows=rows, keep=keep)
        self._router = Table(router, rows=rows, keep=keep)
        self._router_columns = [field.column for field in router]
        tables = (self._engines, self._router)
        self._plans = {name: evaluation.plan(one, tables) for name, one in queries.items()}
        self._queries = dict(queries)
        self._timely = {name for name, one in queries.items() if evaluation.timely(one)}
        self._cache: dict[str, list[Sample]] = {}
        self._cached = evaluation.Moment(-math.inf, -1)
        self._columns = [field.column for field in self._fields]
        self._counter = np.array([one.kind == "counter" for one in self._fields], dtype=np.bool_)
        self._gauge = np.array([one.kind == "gauge" for one in self._fields], dtype=np.bool_)
        self._shown: Floats = np.zeros((0, len(self._fields)))
        self._true: Floats = self._shown
        """What the newest scrape saw and should have seen; a row a pod in order of creation, NaN before the first."""
        self._label_sets: dict[str, Mapping[str, str]] = {}
        self._events: defaultdict[str, list[Event]] = defaultdict(list)
        for event in scenario.events:
            self._events[event.kind].append(event)
        self._honest = not scenario.events and not self._counter.any()
        """Whether samples are always the truth; counters are summed up increment by increment."""
        self._silent: list[frozenset[str]] = []
        """Row by row, the pods without a value."""

    @property
    def idle(self) -> bool:
        """Whether the policy has no queries, so that no values are kept."""
        return not self._queries

    def scrape(self, now: float, targets: Sequence[Target], read: Floats, router: Floats) -> None:
        """Store the pods' present values, the oldest pod first; an outage leaves a gap."""
        scenario = self._scenario
        if self._during("metrics_outage", now):
            return
        row = self._engines.rows
        dropped = max(
            (e.drop_series.pods for e in self._during("drop_series", now) if e.drop_series),
            default=0,
        )
        loss = max((e.lose_scrapes or 0.0 for e in self._during("lose_scrapes", now)), default=0.0)
        kept = list(range(dropped, len(targets)))
        if loss:
            luck = traffic.generator(self._seed, _LOSS, row).random(_DRAWS)
            kept = [one for one in kept if luck[targets[one].index % _DRAWS] >= loss]
        poisoned = sum(e.nan_series.pods for e in self._during("nan_series", now) if e.nan_series)
        well = {targets[position].name for position in kept if position >= poisoned}
        self._silent.append(frozenset(target.name for target in targets) - well)
        if self.idle:
            self._engines.append(now, [], [], np.zeros((0, 0)))
            return
        values = catalogue.extended(read, kv_tokens=scenario.engine.kv_tokens)[:, self._columns]
        if not self._honest:
            values = self._with_faults(now, targets, values, row)
        self._engines.append(
            now,
            [targets[position].name for position in kept],
            [self._labels(targets[position].name) for position in kept],
            values[kept],
        )
        if self._router_columns:
            name = "slipstream-router-0"
            self._router.append(
                now, [name], [self._labels(name)], router[self._router_columns][None, :]
            )

    def answer(
        self, now: float, queries: Mapping[str, Expression]
    ) -> Mapping[str, Sequence[Sample] | Unknown]:
        """Return the results of the queries, as of the newest visible scrape."""
        if self._during("metrics_outage", now):
            return {name: Unknown("Prometheus does not answer") for name in queries}
        if self._during("empty_queries", now):
            return {name: [] for name in queries}
        row = self._visible(now)
        moment = evaluation.Moment(now, row)
        if row != self._cached.row or now - self._cached.now > _REFRESH_SECONDS:
            self._cache.clear()
            self._cached = moment
        results: dict[str, Sequence[Sample] | Unknown] = {}
        for name, expression in queries.items():
            known = self._queries.get(name)
            if known is not expression and known != expression:
                raise ValueError(f"query {name} is not among those that the policy named at first")
            if name in self._timely:
                results[name] = self._plans[name](moment).samples()
                continue
            if name not in self._cache:
                self._cache[name] = self._plans[name](moment).samples()
            results[name] = self._cache[name]
        return results

    def reporting(self, now: float, pods: Sequence[str]) -> float:
        """Return the share of these pods with a newest visible scrape other than NaN; 0 in an outage."""
        if self._during("metrics_outage", now) or self._during("empty_queries", now):
            return 0.0
        row = self._visible(now)
        silent = len(self._silent[row].intersection(pods)) if row >= 0 else len(pods)
        return 1.0 - silent / len(pods) if pods else 1.0

    def _during(self, kind: str, now: float) -> list[Event]:
        """As `Scenario.during`, which would look at all events each time."""
        return [event for event in self._events.get(kind, ()) if event.at <= now < event.until]

    def _visible(self, now: float) -> int:
        lag = self._scenario.metrics.lag + sum(
            event.metrics_lag or 0.0 for event in self._during("metrics_lag", now)
        )
        times = self._engines.times[: self._engines.rows]
        return int(np.searchsorted(times, now - lag, side="right")) - 1

    def _labels(self, pod: str) -> Mapping[str, str]:
        labels = self._label_sets.get(pod)
        if labels is None:
            labels = {"namespace": NAMESPACE, "service": self._scenario.name, "pod": pod}
            if not pod.startswith("slipstream-router"):
                labels = {**labels, "revision": "1"}
            self._label_sets[pod] = labels
        return labels

    def _with_faults(
        self, now: float, targets: Sequence[Target], values: Floats, row: int
    ) -> Floats:
        """Return the values that scrapes see in place of the true ones."""
        scenario = self._scenario
        noise = max((event.noise or 0.0 for event in self._during("noise", now)), default=0.0)
        resets = [
            e
            for e in self._events.get("reset_counters", ())
            if now - scenario.metrics.scrape < e.at <= now
        ]
        frozen = max(
            (e.freeze_series.pods for e in self._during("freeze_series", now) if e.freeze_series),
            default=0,
        )
        poisoned = max(
            (e.nan_series.pods for e in self._during("nan_series", now) if e.nan_series),
            default=0,
        )
        reset = max((e.reset_counters.pods for e in resets if e.reset_counters), default=0)
        places = np.array([target.index for target in targets], dtype=np.int64)
        self._make_room(int(places.max(initial=-1)) + 1)
        shown, true = self._shown[places], self._true[places]
        seen = values
        grown = values - true
        if noise:
            draws = traffic.generator(self._seed, _NOISE, row).standard_normal(_DRAWS)
            factor = np.maximum(0.0, 1.0 + noise * draws[places % _DRAWS])[:, None]
            seen = np.where(self._gauge, seen * factor, seen)
            grown *= factor
        again = ~np.isnan(true)
        base = shown
        if reset:
            base = shown.copy()
            base[:reset] = 0.0
        seen = np.where(self._counter & again, base + grown, seen)
        if frozen:
            seen[:frozen] = np.where(again[:frozen], shown[:frozen], seen[:frozen])
        self._true[places], self._shown[places] = values, seen
        if poisoned:
            seen[:poisoned] = math.nan
        return seen

    def _make_room(self, pods: int) -> None:
        missing = pods - len(self._true)
        if missing > 0:
            more = np.full((missing, len(self._fields)), math.nan)
            self._shown = np.concatenate([self._shown, more])
            self._true = np.concatenate([self._true, more])


def _wanted(fields: Sequence[Field], names: set[str]) -> tuple[Field, ...]:
    return tuple(field for field in fields if field.metric in names)
