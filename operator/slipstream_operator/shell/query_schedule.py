"""Schedule of the queries to one Prometheus.

Costly queries run rarely, and queries over long ranges run at different ticks.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from slipstream_operator import ports
from slipstream_operator.core.prometheus import Server
from slipstream_operator.core.scaling.metrics import queries
from slipstream_operator.core.scaling.metrics.promql import Expression
from slipstream_operator.core.scaling.metrics.query_results import QueryResults, Service

SCRAPE_SECONDS: Final = 15.0
"""Seconds between two queries of the rate window's histograms: the usual scrape interval of pods."""
SLOW_SECONDS: Final = 60.0
"""Seconds between two queries over long ranges."""


class QuerySchedule:
    """Due time of each query, and the results that are needed until then."""

    def __init__(self, *, server: Server, window: float) -> None:
        self._server = server
        self._window = window
        self._due: dict[str, float] = {}
        self._started = False
        self._lengths: dict[str, dict[Service, float]] = {}
        self._bounds: dict[str, tuple[str, ...]] = {}
        """Metric -> bounds of the buckets around its objectives' targets."""

    async def run_due(
        self,
        metrics: ports.Metrics,
        *,
        wanted: Mapping[str, Collection[float]],
        compares: bool = False,
        now: float,
    ) -> QueryResults:
        """Run the due queries and return their results.

        `wanted` maps each metric that has objectives to their targets; `now` is on the monotonic clock. With
        `compares`, revisions of a service share its requests.
        """
        due = dict(self._due_queries([*wanted], now=now))
        if compares:
            due |= queries.of_rollouts()
        texts = {name: str(query) for name, query in due.items()}
        found = QueryResults()
        await metrics.read(self._server, texts, take=found.take)
        for name in found.failed:
            self._due.pop(name, None)
        found.keep(self._lengths)
        self._lengths = found.totals(queries.LENGTHS)
        for metric, targets in wanted.items():
            self._narrow(metric, found.near(queries.latency(metric, "now"), targets))
        return found

    def _narrow(self, metric: str, bounds: tuple[str, ...]) -> None:
        """Limit the long ranges to these buckets; query them at once if some are new."""
        if not bounds:
            return
        known = self._bounds.get(metric)
        if known is not None and not set(bounds) <= set(known):
            for span in queries.LONG:
                self._due.pop(queries.latency(metric, span), None)
        self._bounds[metric] = bounds

    def _due_queries(self, wanted: Sequence[str], *, now: float) -> Mapping[str, Expression]:
        due: dict[str, Expression] = dict(queries.every_tick(window=self._window))
        latencies = queries.every_scrape(window=self._window, metrics=wanted)
        due |= self._all_if_any_is_due(latencies, every=SCRAPE_SECONDS, now=now)
        due |= self._all_if_any_is_due(queries.profile(), every=SLOW_SECONDS, now=now)
        slow = queries.every_minute(metrics=wanted, bounds=self._bounds)
        if not self._started:
            self._started = True
            # NB: all long ranges in one tick would take most of the process's peak memory.
            self._due |= {
                name: now + SLOW_SECONDS * index / len(slow)
                for index, name in enumerate(slow)
                if name not in queries.LENGTHS
            }
        return {**due, **self._due_of(slow, every=SLOW_SECONDS, now=now)}

    def _all_if_any_is_due(
        self, group: queries.Queries, *, every: float, now: float
    ) -> queries.Queries:
        """Return all of the queries if one is due: a reading or a profile needs all its metrics from one tick."""
        if all(now < self._due.get(name, -math.inf) for name in group):
            return {}
        self._due |= dict.fromkeys(group, now + every)
        return group

    def _due_of(self, group: queries.Queries, *, every: float, now: float) -> queries.Queries:
        """Return the due queries. After the first round each has its own time, which spreads them over the ticks."""
        due = {}
        for index, (name, query) in enumerate(group.items()):
            when = self._due.get(name, -math.inf)
            if now < when:
                continue
            due[name] = query
            own = now + every * (index + 1) / len(group)
            self._due[name] = when + every if now < when + every else own
        return due
