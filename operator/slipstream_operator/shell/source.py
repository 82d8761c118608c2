"""One Prometheus and how often it is asked what: the costly queries seldom, those over long ranges spread over the
ticks."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from slipstream_operator import ports
from slipstream_operator.core.scaling import queries
from slipstream_operator.core.scaling.grouped import Grouped, Service
from slipstream_operator.core.scaling.promql import Expression

SCRAPE_SECONDS: Final = 15.0
"""Between two rounds of the queries for histograms of the rate window: as often as pods are usually scraped."""
SLOW_SECONDS: Final = 60.0
"""Between two rounds of the queries over long ranges."""


class Source:
    """Remembers when each query is due, and the few numbers that are needed until then."""

    def __init__(self, *, url: str, window: float) -> None:
        self._url = url
        self._window = window
        self._due: dict[str, float] = {}
        self._begun = False
        self._lengths: dict[str, dict[Service, float]] = {}
        self._bounds: dict[str, tuple[str, ...]] = {}
        """Of the buckets around the objectives' targets, by metric."""

    async def ask(
        self, metrics: ports.Metrics, *, wanted: Mapping[str, Collection[float]], now: float
    ) -> Grouped:
        """Answers to all queries that are due, and to none of the other histograms.

        `wanted` are the metrics that objectives are about, with their targets; `now` is on the monotonic clock.
        """
        asked = {name: str(query) for name, query in self._to_ask([*wanted], now=now).items()}
        found = Grouped()
        await metrics.read(self._url, asked, take=found.take)
        for name in found.failed:
            self._due.pop(name, None)
        found.keep(self._lengths)
        self._lengths = found.totals(queries.LENGTHS)
        for metric, targets in wanted.items():
            self._narrow(metric, found.near(queries.latency(metric, "now"), targets))
        return found

    def _narrow(self, metric: str, bounds: tuple[str, ...]) -> None:
        """Long ranges are asked for these buckets alone; anew, if some were not asked for before."""
        if not bounds:
            return
        known = self._bounds.get(metric)
        if known is not None and not set(bounds) <= set(known):
            for span in queries.LONG:
                self._due.pop(queries.latency(metric, span), None)
        self._bounds[metric] = bounds

    def _to_ask(self, wanted: Sequence[str], *, now: float) -> Mapping[str, Expression]:
        due: dict[str, Expression] = dict(queries.every_tick(window=self._window))
        latencies = queries.every_scrape(window=self._window, metrics=wanted)
        due |= self._all_if_any_is_due(latencies, every=SCRAPE_SECONDS, now=now)
        slow = queries.every_minute(metrics=wanted, bounds=self._bounds)
        if not self._begun:
            self._begun = True
            # NB: all long ranges in one tick would be most of the memory that the process ever takes.
            self._due |= {
                name: now + SLOW_SECONDS * index / len(slow)
                for index, name in enumerate(slow)
                if name not in queries.LENGTHS
            }
        return {**due, **self._due_of(slow, every=SLOW_SECONDS, now=now)}

    def _all_if_any_is_due(
        self, asked: queries.Queries, *, every: float, now: float
    ) -> queries.Queries:
        """Answers that only say something together come in one tick: a reading needs all of its objectives' metrics."""
        if all(now < self._due.get(name, -math.inf) for name in asked):
            return {}
        self._due |= dict.fromkeys(asked, now + every)
        return asked

    def _due_of(self, asked: queries.Queries, *, every: float, now: float) -> queries.Queries:
        """Return the due queries; after the first time each has its own time, which spreads them over the ticks."""
        due = {}
        for index, (name, query) in enumerate(asked.items()):
            when = self._due.get(name, -math.inf)
            if now < when:
                continue
            due[name] = query
            own = now + every * (index + 1) / len(asked)
            self._due[name] = when + every if now < when + every else own
        return due
