"""Slipstream's policy as the operator runs it; ablations leave out one of its parts."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Final

from slipstream_operator.core import objectives
from slipstream_operator.core.scaling import inputs, persistence, policy, supply
from slipstream_operator.core.scaling.bounds import Bounds
from slipstream_operator.core.scaling.metrics import queries, query_results
from slipstream_operator.core.scaling.metrics.promql import Expression
from slipstream_operator.core.scaling.metrics.query_results import ServiceResults
from slipstream_operator.core.scaling.metrics.values import Reading, Samples, Unknown
from slipstream_operator.core.scaling.state import Decision, State
from slipstream_simulator.policy import FleetView

TICK: float = 5.0
WINDOW: float = 60.0
DOWN_WINDOW: float = 120.0
"""The operator's defaults."""
_FEEDBACK: Final = "5m"
"""The longest span of latencies that decisions look at; the longer ones are for status."""


class Slipstream:
    """`policy.decide` with the state that the operator keeps.

    `metrics` are the latencies with objectives; `standing` raises `minReplicas`.
    """

    def __init__(
        self,
        *,
        metrics: Iterable[str] = objectives.METRICS,
        without: frozenset[str] = frozenset(),
        max_sequences: int | None = None,
        idle_after: float | None = None,
        standing: int = 0,
        tick: float = TICK,
        window: float = WINDOW,
        down_window: float = DOWN_WINDOW,
    ) -> None:
        self.name = "-".join(["slipstream", *(f"no-{part}" for part in sorted(without))])
        self.every = tick
        self._without = without
        self._max_sequences = max_sequences
        self._idle_after = idle_after
        self._standing = standing
        metrics = tuple(metrics)
        latencies = {
            **queries.every_scrape(window=window, metrics=metrics),
            **queries.every_minute(metrics=metrics, spans=(_FEEDBACK,)),
        }
        self._queries = {**queries.every_tick(window=window), **latencies}
        self._unlike_latencies = self._queries.keys() - latencies | {*queries.LENGTHS}
        self._window = window
        self._down_window = down_window
        self._state: State | None = None
        self._samples: Samples = {}
        self._results: ServiceResults | None = None
        self._readings: tuple[Reading, ...] = ()
        self.decision: Decision | None = None
        """Last decision, for plots and explanations."""

    def queries(self) -> Mapping[str, Expression]:
        """Return the subset of the operator's queries that its decisions need."""
        return self._queries

    def decide(self, view: FleetView) -> int:
        """Run one tick of the scaling loop."""
        if self._state is None:
            self._state = policy.initial(desired=view.replicas, now=view.now)
        gathered = inputs.build(
            self._sorted(view.samples),
            inputs.Settings(
                bounds=Bounds(
                    max(view.minimum, min(self._standing, view.maximum)),
                    view.maximum,
                    follows_load=True,
                    idle_after=self._idle_after,
                ),
                objectives=view.objectives,
                scale_down_window=self._down_window,
                rate_window=self._window,
                max_sequences=self._max_sequences,
                without=self._without,
            ),
            now=view.now,
            pods=tuple(
                supply.PodStatus(
                    name=pod.name,
                    created=pod.created,
                    ready_at=pod.ready_at if pod.ready else None,
                    terminating=pod.terminating,
                    scheduled=pod.scheduled,
                    failed_starts=pod.failed_starts,
                )
                for pod in view.pods
            ),
            earlier=self._readings,
        )
        self._readings = () if isinstance(gathered.readings, Unknown) else gathered.readings
        self.decision, self._state = policy.decide(gathered, self._state)
        return self.decision.desired

    def _sorted(self, samples: Samples) -> ServiceResults:
        """Return the query results; between two scrapes only the ages of samples are new."""
        before, self._samples = self._samples, samples
        if self._results is None or any(
            samples[name] is not before.get(name) for name in samples if name != queries.AGE
        ):
            self._results = query_results.alone(samples)
            return self._results
        ages = query_results.alone({queries.AGE: samples[queries.AGE]}).pods
        return dataclasses.replace(
            self._results,
            queried=self._unlike_latencies,
            pods={
                pod: [*row[:-1], ages[pod][-1] if pod in ages else -1.0]
                for pod, row in self._results.pods.items()
            },
        )

    def restarted(self) -> None:
        """Restore the state that was persisted."""
        if self._state is not None:
            self._state = persistence.load(persistence.dump(self._state))
