"""Shares of the time of requests, by cause. Pure."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from slipstream_operator.core.objectives import Objective
from slipstream_simulator.recorded import causes
from slipstream_simulator.recorded.requests import Recorded

METRICS: Final = ("ttft", "tpot", "e2e")


@dataclass(frozen=True, slots=True)
class Shares:
    """Time of several requests by cause."""

    requests: int
    seconds: float
    """Seconds of all of them together."""
    by_cause: Mapping[str, float]
    """Share of the seconds, 0 to 1; a cause that took no time is left out."""


@dataclass(frozen=True, slots=True)
class Attribution:
    """Causes of a service's latency, for all requests and for those that missed an objective."""

    ttft: Shares
    e2e: Shares
    missed_ttft: Shares
    missed_e2e: Shares

    def share(self, cause: str) -> tuple[str, float]:
        """Return the metric in which the cause has its largest share, and that share."""
        found = [
            (name, shares.by_cause.get(cause, 0.0))
            for name, shares in (("TTFT", self.ttft), ("E2E", self.e2e))
        ]
        return max(found, key=lambda one: one[1])


@dataclass(frozen=True, slots=True)
class Attained:
    """Share of the requests inside the target of one objective."""

    objective: Objective
    known: int
    """Requests whose latency is known."""
    share: float | None
    """None if no latency is known."""

    @property
    def met(self) -> bool | None:
        """Whether enough requests were inside the target; None if unknown."""
        return None if self.share is None else self.share >= self.objective.share


def limits(objectives: Sequence[Objective]) -> dict[str, float]:
    """Map each metric to the target of its highest percentile, which comes first: a slower request missed it."""
    found: dict[str, float] = {}
    for one in objectives:
        found.setdefault(one.metric, one.target)
    return found


def missed(latencies: Mapping[str, float | None], targets: Mapping[str, float]) -> bool:
    """Whether a known latency exceeds its target."""
    return any(
        (seen := latencies.get(metric)) is not None and seen > target
        for metric, target in targets.items()
    )


def latencies(request: Recorded) -> dict[str, float | None]:
    """Return the latencies of a request by metric."""
    return {metric: request.latency(metric) for metric in METRICS}


def attribute(requests: Sequence[Recorded], targets: Mapping[str, float]) -> Attribution:
    """Return the shares of each cause in the requests that were answered."""
    answered = [one for one in requests if one.answered]
    late = [one for one in answered if missed(latencies(one), targets)]
    return Attribution(
        ttft=_shares(map(causes.until_first_token, answered)),
        e2e=_shares(map(causes.until_end, answered)),
        missed_ttft=_shares(map(causes.until_first_token, late)),
        missed_e2e=_shares(map(causes.until_end, late)),
    )


def attained(
    requests: Iterable[Mapping[str, float | None]], objectives: Sequence[Objective]
) -> list[Attained]:
    """Return the share of the requests inside each objective, from their latencies by metric."""
    every = [*requests]
    found = []
    for objective in objectives:
        known = [seen for one in every if (seen := one.get(objective.metric)) is not None]
        inside = sum(seen <= objective.target for seen in known)
        found.append(Attained(objective, len(known), inside / len(known) if known else None))
    return found


def quantile(values: Sequence[float], share: float) -> float | None:
    """Return the smallest value that this share of the values does not exceed; None without values."""
    if not values:
        return None
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def _shares(requests: Iterable[Mapping[str, float] | None]) -> Shares:
    """Return the shares of each cause in the requests whose parts are known."""
    seconds: defaultdict[str, float] = defaultdict(float)
    count = 0
    for one in requests:
        if one is None:
            continue
        count += 1
        for cause, spent in one.items():
            seconds[cause] += spent
    total = sum(seconds.values())
    by_cause = {cause: spent / total for cause, spent in seconds.items() if spent > 0}
    return Shares(requests=count, seconds=total, by_cause=by_cause)
