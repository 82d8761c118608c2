"""Readings that peers take from a query's result, and queries that several peers share."""

import math
from collections.abc import Mapping
from typing import Final

from slipstream_operator.core.objectives import Objectives
from slipstream_operator.core.scaling.metrics.promql import Binary, By, Expression, Over, Series
from slipstream_operator.core.scaling.metrics.values import Unknown
from slipstream_runtime import contract
from slipstream_simulator.policy import FleetView, Pod

PROMPTS: Final = "vllm:request_prompt_tokens"
OUTPUTS: Final = "vllm:request_generation_tokens"
TARGETS: Final = (4.0, 8.0, 16.0, 24.0, 32.0, 48.0, 64.0)
"""Requests in flight that one replica may have: the values that such a knob is swept over."""
SHARES: Final = (0.2, 0.25, 0.3, 0.4, 0.5, 0.7, 1.0)
"""Shares of an objective or of a capacity that a knob is swept over."""


def by_pod(
    view: FleetView, query: str, *, invalid: float | None = None
) -> Mapping[str, float] | Unknown:
    """Value by pod; a value that is not finite is missing, or `invalid` where the peer takes it so."""
    result = view.samples[query]
    if isinstance(result, Unknown):
        return result
    values = {}
    for sample in result:
        if math.isfinite(sample.value):
            values[sample.labels["pod"]] = sample.value
        elif invalid is not None:
            values[sample.labels["pod"]] = invalid
    return values


def value(view: FleetView, query: str) -> float | Unknown:
    """The one number that a query returns; Unknown if it is none, several, or not finite."""
    result = view.samples[query]
    if isinstance(result, Unknown):
        return result
    if len(result) != 1:
        return Unknown(f"query {query} returned {len(result)} series")
    found = result[0].value
    return found if math.isfinite(found) else Unknown(f"query {query} returned {found}")


def value_or_zero(view: FleetView, query: str) -> float | Unknown:
    """The same, where the peer takes an empty result, NaN and infinity as 0."""
    if isinstance(view.samples[query], Unknown):
        return value(view, query)
    found = value(view, query)
    return 0.0 if isinstance(found, Unknown) else found


def alive(view: FleetView) -> tuple[Pod, ...]:
    """The pods that status.replicas counts."""
    return tuple(pod for pod in view.pods if not pod.terminating)


def ready(view: FleetView) -> tuple[Pod, ...]:
    """Return the pods that are ready."""
    return tuple(pod for pod in alive(view) if pod.ready)


def bounded(view: FleetView, replicas: int, *, floor: int = 0) -> int:
    """Within the limits of the service, and at least `floor`: some peers can't go to zero."""
    return min(max(replicas, view.minimum, floor), view.maximum)


def target(objectives: Objectives, metric: str) -> float:
    """Seconds of the strictest objective for a metric; infinite without one."""
    return min((one.target for one in objectives.latency if one.metric == metric), default=math.inf)


def summed(of: Expression) -> Expression:
    """`sum(x)`."""
    return By("sum", (), of)


def in_flight() -> Expression:
    """Requests in the engines, and those that the router holds for want of one."""
    engines = Binary(Series(contract.RUNNING), "+", Series(contract.WAITING))
    return summed(Binary(engines, "or", Series(contract.ROUTER_QUEUED)))


def arrivals(seconds: float) -> Expression:
    """Requests of the last seconds that came to the router; without a router, those that were completed."""
    came = summed(Over("increase", Series(contract.ROUTER_REQUESTS), seconds))
    return Binary(came, "or", summed(Over("increase", Series(contract.REQUEST_SUCCESS), seconds)))


def mean(histogram: str, seconds: float) -> Expression:
    """The mean of what a histogram observed in the last seconds, all pods together."""
    total = summed(Over("rate", Series(f"{histogram}_sum"), seconds))
    return Binary(total, "/", summed(Over("rate", Series(f"{histogram}_count"), seconds)))
