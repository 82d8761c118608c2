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
"""Values of a sweep over the requests in flight of one replica."""
SHARES: Final = (0.2, 0.25, 0.3, 0.4, 0.5, 0.7, 1.0)
"""Values of a sweep over a share of an objective or of a capacity."""


def by_pod(
    view: FleetView, query: str, *, invalid: float | None = None
) -> Mapping[str, float] | Unknown:
    """Return the value of each pod; a value that isn't finite is missing, or `invalid` if the peer takes it so."""
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
    """Return the one number that a query returned; Unknown if there is none, more than one, or it isn't finite."""
    result = view.samples[query]
    if isinstance(result, Unknown):
        return result
    if len(result) != 1:
        return Unknown(f"query {query} returned {len(result)} series")
    found = result[0].value
    return found if math.isfinite(found) else Unknown(f"query {query} returned {found}")


def value_or_zero(view: FleetView, query: str) -> float | Unknown:
    """Return the number, with 0 for an empty result, NaN and infinity, as some peers do."""
    if isinstance(view.samples[query], Unknown):
        return value(view, query)
    found = value(view, query)
    return 0.0 if isinstance(found, Unknown) else found


def alive(view: FleetView) -> tuple[Pod, ...]:
    """Return the pods that status.replicas counts."""
    return tuple(pod for pod in view.pods if not pod.terminating)


def ready(view: FleetView) -> tuple[Pod, ...]:
    """Return the pods that are ready."""
    return tuple(pod for pod in alive(view) if pod.ready)


def bounded(view: FleetView, replicas: int, *, floor: int = 0) -> int:
    """Return the count within the limits of the service; `floor` is for peers that can't go to zero."""
    return min(max(replicas, view.minimum, floor), view.maximum)


def target(objectives: Objectives, metric: str) -> float:
    """Return the strictest objective for a metric in seconds; infinity without one."""
    return min((one.target for one in objectives.latency if one.metric == metric), default=math.inf)


def summed(of: Expression) -> Expression:
    """Return the expression `sum(x)`."""
    return By("sum", (), of)


def in_flight() -> Expression:
    """Return the expression for the requests in the engines and in the router's queue."""
    engines = Binary(Series(contract.RUNNING), "+", Series(contract.WAITING))
    return summed(Binary(engines, "or", Series(contract.ROUTER_QUEUED)))


def arrivals(seconds: float) -> Expression:
    """Return the expression for the requests that reached the router; without a router, for completed requests."""
    came = summed(Over("increase", Series(contract.ROUTER_REQUESTS), seconds))
    return Binary(came, "or", summed(Over("increase", Series(contract.REQUEST_SUCCESS), seconds)))


def mean(histogram: str, seconds: float) -> Expression:
    """Return the expression for the mean of a histogram over all pods in the last seconds."""
    total = summed(Over("rate", Series(f"{histogram}_sum"), seconds))
    return Binary(total, "/", summed(Over("rate", Series(f"{histogram}_count"), seconds)))
