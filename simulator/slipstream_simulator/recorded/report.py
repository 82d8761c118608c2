"""Report on the latency of a service: requests, objectives, causes, and advice. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from slipstream_operator.core.objectives import Objective
from slipstream_simulator.recorded import advice, attribution
from slipstream_simulator.recorded.attribution import METRICS, Attained, Attribution
from slipstream_simulator.recorded.requests import Recorded

QUANTILES: Final = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


@dataclass(frozen=True, slots=True)
class Report:
    """Latency of the requests of a time. Times are in seconds since the epoch."""

    service: str
    since: float
    """Arrival of the first request that is counted."""
    until: float
    requests: int
    answered: int
    refused: Mapping[int, int]
    """Status of an error -> its number."""
    broken: int
    cancelled: int
    replicas: int
    """Replicas that got requests."""
    missed: int
    """Answered requests that missed an objective."""
    divided: int
    """Answered requests whose time in the replica is known by cause, from the record of an engine."""
    latency: Mapping[str, Mapping[str, float | None]]
    """Metric -> percentile -> seconds, of answered requests; None if no latency is known."""
    attained: Sequence[Attained]
    causes: Attribution
    advice: Sequence[tuple[str, str]]
    """Cause and its sentence, the largest share first."""


def report(
    requests: Sequence[Recorded],
    objectives: Sequence[Objective],
    *,
    service: str,
    until: float,
) -> Report:
    """Return the report on requests, of which there is at least one."""
    answered = [one for one in requests if one.answered]
    targets = attribution.limits(objectives)
    seen = [attribution.latencies(one) for one in answered]
    causes = attribution.attribute(requests, targets)
    return Report(
        service=service,
        since=min(one.arrived for one in requests),
        until=until,
        requests=len(requests),
        answered=len(answered),
        refused=dict(sorted(Counter(one.status for one in requests if one.refused).items())),
        broken=sum(one.outcome == "broken" for one in requests),
        cancelled=sum(one.outcome == "cancelled" for one in requests),
        replicas=len({one.replica for one in requests if one.replica}),
        divided=sum(one.engine is not None and one.engine.first is not None for one in answered),
        missed=sum(attribution.missed(one, targets) for one in seen),
        latency={metric: percentiles(seen, metric) for metric in METRICS},
        attained=attribution.attained(seen, objectives),
        causes=causes,
        advice=advice.sentences(causes, service=service),
    )


def percentiles(
    latencies: Sequence[Mapping[str, float | None]], metric: str
) -> dict[str, float | None]:
    """Return the percentiles of the known latencies of a metric."""
    known = [seen for one in latencies if (seen := one[metric]) is not None]
    return {name: attribution.quantile(known, share) for name, share in QUANTILES.items()}
