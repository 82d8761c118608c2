"""Uncensored demand of clients: completions alone equal capacity once it is reached."""

import dataclasses
import math
from typing import Final

from slipstream_operator.core.scaling.metrics.values import Load, PodLoad
from slipstream_operator.core.scaling.models.sizing import Demand
from slipstream_operator.core.scaling.models.steptime import Observation

_SIGNIFICANT: Final = 1.15
"""Tokens expected from arrivals count only as far as they are more than so many times those made: both are noisy."""
_STATIONARY: Final = 0.5
"""A window in which the requests inside changed by more than this share of their mean teaches no step time."""
_TOKENS: Final = 20.0
"""Tokens in a window below which a step's time says nothing."""
_CACHE_GUESS: Final = 0.5
_OUTLIER: Final = 2.0
_COME_AGAIN: Final = 0.5
"""True if each client tries twice; nobody tells how often they do."""


def estimate(
    load: Load,
    *,
    window: float,
    engines: int = 1,
    usual: Demand | None = None,
    conserve: bool = True,
) -> Demand:
    """Work of one engine of each replica: what is done, raised to what arrives where that is clearly more.

    The `engines` of a replica share its requests. So a count of replicas is as loaded by all requests as the same
    count of single engines by this part of them.

    By conservation, arrivals are completions plus the growth of what is inside, and first tokens plus the growth
    of the queue; growth is twice what a gauge is above its mean over the window. Both are lower bounds, so the
    larger counts, or the router's count if there is one. With a router, a queue that is worked off is not taken for
    what comes, if its count and the shrinking queue both say so. Requests of which none has begun are as `usual`.
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


def first_attempts(asked: Demand, load: Load, *, engines: int = 1) -> Demand:
    """Return the demand without retries: half of the clients that leave are assumed to retry."""
    if load.cancelled <= 0:
        return asked
    cancelled = load.cancelled / engines
    return asked.scaled(1 - _COME_AGAIN * cancelled / max(asked.requests, cancelled))


def context(load: Load, *, engines: int = 1) -> float:
    """KV tokens of one running request."""
    running = sum([pod.running_mean for pod in load.pods])
    if load.kv_tokens is not None and running > _CACHE_GUESS:
        return sum([pod.kv_mean for pod in load.pods]) * engines * load.kv_tokens / running
    return (load.prompt_length or 0.0) + (load.output_length or 0.0) / 2


def observations(load: Load, *, window: float, engines: int = 1) -> tuple[Observation, ...]:
    """Return one observation of the step time for each replica that is not new, silent or out of memory.

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
    """The load if its busiest pod were like the others; None if that pod is not far from them."""
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
    """Return the certain recent arrivals: two standard deviations below the router's count over half the window."""
    if load.surge is None:
        return 0.0
    return max(0.0, load.surge - 2 * math.sqrt(load.surge / (window / 2)))


def _noise(load: Load, window: float) -> float:
    """One standard deviation of the growth of what is inside, in requests per second."""
    inside = sum([pod.running_mean + pod.waiting_mean for pod in load.pods])
    return 2 * math.sqrt(inside) / window


def _arrivals(pod: PodLoad, window: float) -> float:
    inside = pod.running + pod.waiting - pod.running_mean - pod.waiting_mean
    by_finished = pod.finished + 2 * inside / window
    by_started = pod.started + 2 * (pod.waiting - pod.waiting_mean) / window
    return max(by_finished, by_started, 0.0) + pod.rejected
