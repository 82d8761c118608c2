"""Objectives as numbers, from the percentiles of the spec, and their comparison with measurements."""

import dataclasses
from typing import Final

from slipstream_operator.api import units
from slipstream_operator.api.slo import LatencyObjectives, Percentiles, SloSpec

METRICS: Final = ("ttft", "tpot", "e2e")
PERCENTILES: Final = {"p99": 0.99, "p95": 0.95, "p90": 0.90, "p50": 0.50}


@dataclasses.dataclass(frozen=True)
class Objective:
    """`share` of the requests must see `metric` within `target` seconds."""

    metric: str
    percentile: str
    target: float
    text: str

    @property
    def name(self) -> str:
        """Return the key in status, such as `ttft-p95`."""
        return f"{self.metric}-{self.percentile}"

    @property
    def share(self) -> float:
        """Return the percentile as a share of requests."""
        return PERCENTILES[self.percentile]


@dataclasses.dataclass(frozen=True)
class Objectives:
    """Objectives of a service, the strictest percentile of a metric first."""

    latency: tuple[Objective, ...] = ()
    throughput: int | None = None
    """Output tokens per second that all replicas together must be able to generate."""

    def __bool__(self) -> bool:
        return bool(self.latency) or self.throughput is not None

    def without_tokens(self) -> "Objectives":
        """Return the objectives of a runtime that generates no tokens."""
        return Objectives(tuple(one for one in self.latency if one.metric == "e2e"))


def combine(slo: SloSpec, *, tier: LatencyObjectives | None) -> Objectives:
    """Return the objectives of the service. Its own win over those of the tier, one by one."""
    latency = []
    for metric in METRICS:
        own: Percentiles | None = getattr(slo, metric)
        inherited: Percentiles | None = getattr(tier, metric) if tier else None
        for percentile in PERCENTILES:
            text = (own and getattr(own, percentile)) or (
                inherited and getattr(inherited, percentile)
            )
            if text:
                latency.append(Objective(metric, percentile, units.seconds(text), text))
    return Objectives(
        latency=tuple(latency),
        throughput=slo.throughput.output_tokens_per_second if slo.throughput else None,
    )


def budget_remaining(share: float, attained: float) -> float:
    """Return the remaining share of the error budget `1 - share`: 1 is untouched, 0 spent, less than 0 overdrawn."""
    return 1.0 - (1.0 - attained) / (1.0 - share)
