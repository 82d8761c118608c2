"""Demand of clients, not censored by capacity: in overload, completions only show the capacity."""

import dataclasses
import math
from typing import Final

from slipstream_operator.core.scaling.metrics.values import Load, PodLoad
from slipstream_operator.core.scaling.models.sizing import Demand
from slipstream_operator.core.scaling.models.steptime import Observation

_SIGNIFICANT: Final = 1.15
"""Factor by which tokens expected from arrivals must exceed generated tokens to count: both are noisy."""
_STATIONARY: Final = 0.5
"""Share of the mean by which requests in flight may change in a window that teaches the step time."""
_TOKENS: Final = 20.0
"""Tokens of a window below which the step time is too uncertain."""
_MIN_RUNNING: Final = 0.5
"""Running requests below which KV tokens per request are estimated from lengths, not from the cache."""
_OUTLIER: Final = 2.0
"""Factor between the busiest pod and the median of the others from which that pod is an outlier."""
_RETRY_SHARE: Final = 0.5
"""Share of cancelled requests that are taken for retries, as if each client tried twice; no metric counts retries."""


def estimate(
    load: Load,
    *,
    window: float,
    engines: int = 1,
    usual: Demand | None = None,
    conserve: bool = True,
) -> Demand:
    """Return the demand: the served requests, or the arriving ones if they are significantly more.

    With several engines in a replica, the result is the part of one engine each.

    Arrivals are completions plus the growth of requests in flight, and also first tokens plus the growth of the
    queue. The growth of a gauge is twice its value above its mean over the window. Both are lower bounds, so the
    larger one counts, or the router's count of requests.

    While a queue drains, served requests are more than arrivals. With a router they are then limited to the arrivals.
    If no request was started, the mix of tokens is `usual`.
    """
    started = sum([pod.started for pod in load.pods])
    prompt = sum([pod.prompt for pod in load.pods])
    output = sum([pod.output for pod in load.pods])
    part, length = 1 / engines, context(load, engines=engines)
    if not conserve:
        return Demand(started, prompt, output, length).scaled(part)
    conserved = sum([_arrivals(pod, window) for pod in load.pods])
    arriving = max(conserved, load.arrivals or 0.0)
    served = started
    if load.arrivals is not None:
        served = min(started, max(load.arrivals, conserved + load.cancelled))
    requests = max(served, arriving - _noise(load, window), _surge(load, window))
    if started > 0:
        prompt *= requests / started
        output *= requests / started
    elif usual is not None and usual.requests > 0:
        return usual.scaled(part * requests / usual.requests)
    if load.output_length is not None:
        output = max(output, requests * load.output_length / _SIGNIFICANT)
    return Demand(requests, prompt, output, length).scaled(part)


def first_attempts(total: Demand, load: Load, *, engines: int = 1) -> Demand:
    """Return the demand without retries: half of the clients that leave are assumed to retry."""
    if load.cancelled <= 0:
        return total
    cancelled = load.cancelled / engines
    return total.scaled(1 - _RETRY_SHARE * cancelled / max(total.requests, cancelled))


def context(load: Load, *, engines: int = 1) -> float:
    """Return the KV tokens of one running request."""
    running = sum([pod.running_mean for pod in load.pods])
    if load.kv_tokens is not None and running > _MIN_RUNNING:
        return sum([pod.kv_mean for pod in load.pods]) * engines * load.kv_tokens / running
    return (load.prompt_length or 0.0) + (load.output_length or 0.0) / 2


def observations(load: Load, *, window: float, engines: int = 1) -> tuple[Observation, ...]:
    """Return one observation of the step time for each replica that is not new, silent or preempting.

    Sums over the engines of a replica and over their steps give means of one step.
    """
    found = []
    for pod in load.pods:
        if not pod.settled or pod.preempted or pod.steps <= 0 or pod.itl_count * window < _TOKENS:
            continue
        inside, mean = pod.running + pod.waiting, pod.running_mean + pod.waiting_mean
        if abs(inside - mean) > _STATIONARY * mean + 2 * math.sqrt(mean):
            continue
        batch = pod.output / pod.steps
        resident = 0.0
        if load.kv_tokens is not None and pod.running_mean > 0:
            running = pod.running_mean / engines
            resident = pod.kv_mean * load.kv_tokens * batch / max(running, batch)
        seconds = pod.itl_sum / pod.itl_count
        if batch > 0 and seconds > 0:
            found.append(Observation(batch, resident, pod.prompt / pod.steps, seconds))
    return tuple(found)


def without_outlier(load: Load) -> Load | None:
    """Return the load with the busiest pod replaced by the median of the others; None if it is no outlier."""
    if len(load.pods) < 2:
        return None
    ordered = sorted(
        load.pods, key=lambda pod: (pod.running + pod.waiting, pod.output, pod.prompt, pod.started)
    )
    busiest, others = ordered[-1], ordered[:-1]
    usual = others[len(others) // 2]
    busy = (
        busiest.running + busiest.waiting > _OUTLIER * (usual.running + usual.waiting)
        or busiest.output > _OUTLIER * usual.output
        or busiest.prompt > _OUTLIER * usual.prompt
    )
    return dataclasses.replace(load, pods=(*others, usual)) if busy else None


def _surge(load: Load, window: float) -> float:
    """Return a lower bound of recent arrivals: the router's count over half the window less two standard deviations."""
    if load.surge is None:
        return 0.0
    return max(0.0, load.surge - 2 * math.sqrt(load.surge / (window / 2)))


def _noise(load: Load, window: float) -> float:
    """Return the standard deviation of the growth of requests in flight, in requests per second."""
    inside = sum([pod.running_mean + pod.waiting_mean for pod in load.pods])
    return 2 * math.sqrt(inside) / window


def _arrivals(pod: PodLoad, window: float) -> float:
    inside = pod.running + pod.waiting - pod.running_mean - pod.waiting_mean
    by_finished = pod.finished + 2 * inside / window
    by_started = pod.started + 2 * (pod.waiting - pod.waiting_mean) / window
    return max(by_finished, by_started, 0.0) + pod.rejected
