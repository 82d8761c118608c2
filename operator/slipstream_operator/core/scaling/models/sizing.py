"""Replicas that a demand needs, by queueing formulas over the learned step time.

The formulas are of first order: processor sharing for the batch, Kingman's approximation for queues. Measured latency
corrects their errors (`feedback`).
"""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Final

from slipstream_operator.core.scaling.models.steptime import Coefficients

PEAKEDNESS: Final = 1.5
"""Variance over mean of the number of requests in service: 1 for Poisson arrivals of equal lengths."""
_PROMPT_VARIATION: Final = 1.3
"""Squared coefficient of variation of prompt lengths."""
_TYPICAL_LENGTH: Final = 0.6
"""Typical over mean output length: the prompts of other requests delay short outputs most."""
KV_FULL: Final = 0.9
"""Share of the KV cache that is planned for: vLLM preempts requests when the cache is full."""
_KV_ROOM: Final = 1.75
"""Standard deviations of the requests in service that must fit into the KV cache.

A full cache preempts requests. A lack of sequences only delays them, which the time to first token accounts for.
"""
LEAST_OUTPUT: Final = 1e-12
"""Smallest plausible output tokens per second."""
MOST_REQUESTS: Final = 1e9
"""Largest plausible requests or output tokens per second."""
MOST_TOKENS: Final = 1e15
"""Largest plausible number of tokens of a request or of a step."""
_MAX_UTILIZATION: Final = 0.98
"""Highest utilization for which latency is predicted."""
_NORMAL: Final = NormalDist()


@dataclasses.dataclass(frozen=True, slots=True)
class Demand:
    """Demand per second on all replicas; with several engines in a replica, the part of one engine each."""

    requests: float
    prompt: float
    """Prompt tokens to compute, without cached tokens."""
    output: float
    context: float
    """KV tokens of one running request."""

    def scaled(self, factor: float) -> "Demand":
        """Return the same mix of requests at another rate."""
        return Demand(
            self.requests * factor, self.prompt * factor, self.output * factor, self.context
        )

    @property
    def plausible(self) -> bool:
        """Whether pods can mean it. NaN fails every comparison."""
        return (
            0 <= self.requests <= MOST_REQUESTS
            and 0 <= self.prompt <= MOST_TOKENS
            and LEAST_OUTPUT <= self.output <= MOST_REQUESTS
            and 0 <= self.context <= MOST_TOKENS
        )


@dataclasses.dataclass(frozen=True, slots=True)
class BatchLimits:
    """Limits of the batch of one replica; None if unknown."""

    kv_tokens: int | None = None
    sequences: int | None = None

    def in_cache(self, context: float) -> float:
        """Return the requests with this many KV tokens that fit into the KV cache."""
        if self.kv_tokens is None or context <= 0:
            return math.inf
        return max(1.0, KV_FULL * self.kv_tokens / context)

    def batch(self, context: float) -> float:
        """Return the largest batch of requests with this many KV tokens."""
        return min(self.in_cache(context), self.sequences or math.inf)


@dataclasses.dataclass(frozen=True, slots=True)
class Goal:
    """`share` of the requests must see `metric` within `target` seconds."""

    metric: str
    share: float
    target: float


@dataclasses.dataclass(frozen=True, slots=True)
class OperatingPoint:
    """One replica in steady state, in seconds."""

    utilization: float
    step: float
    """Mean time of a step, which is the mean time per output token."""
    batch: float
    prefill: float
    """Share of the time that is spent on prompts."""
    marginal: float
    """Seconds of a step per sequence of the batch."""


def work(model: Coefficients, demand: Demand) -> float:
    """Return the load in replicas: marginal engine seconds per second of the demand."""
    return model.delta * demand.prompt + _token(model, demand) * demand.output


def operate(model: Coefficients, demand: Demand, count: int) -> OperatingPoint | None:
    """Return the operating point of each of `count` replicas under this demand; None in overload."""
    rho = work(model, demand) / count
    if rho >= _MAX_UTILIZATION:
        return None
    step = model.alpha / (1 - rho)
    return OperatingPoint(
        utilization=rho,
        step=step,
        batch=demand.output / count * step,
        prefill=model.delta * demand.prompt / count,
        marginal=_token(model, demand),
    )


def latency(
    metric: str,
    share: float,
    model: Coefficients,
    demand: Demand,
    limits: BatchLimits,
    count: int,
) -> float:
    """Return the quantile `share` of the latency in seconds; infinite in overload."""
    run = operate(model, demand, count)
    return math.inf if run is None else _latency(metric, share, run, model, demand, limits, count)


def _latency(
    metric: str,
    share: float,
    run: OperatingPoint,
    model: Coefficients,
    demand: Demand,
    limits: BatchLimits,
    count: int,
) -> float:
    if metric == "tpot":
        return _tpot(run, model, demand, count, share)
    ttft = _ttft(run, model, demand, limits, count, share)
    if metric == "ttft":
        return ttft
    length = demand.output / demand.requests if demand.requests > 0 else 0.0
    longest = length * (1 + _z(share))
    return ttft + longest * _tpot(run, model, demand, count, share)


def replicas(
    model: Coefficients,
    demand: Demand,
    limits: BatchLimits,
    goals: Sequence[Goal],
    *,
    corrections: Mapping[str, float],
    start: int,
    most: int,
    least: int = 1,
) -> int:
    """Return the smallest count from `least` to `most` that meets every goal; the search starts at `start`."""
    if demand.prompt + demand.output <= 0:
        return 0

    def enough(count: int) -> bool:
        return _fits(model, demand, limits, goals, corrections, count)

    low = max(least, math.ceil(work(model, demand) / _MAX_UTILIZATION))
    if low >= most:
        return most
    count = min(max(start, low), most)
    if enough(count):
        while count > low and enough(count - 1):
            count -= 1
        return count
    below, step = count, 1
    while count < most and not enough(count):
        below, count = count, min(count + step, most)
        step *= 2
    while count - below > 1:
        middle = (below + count) // 2
        below, count = (below, middle) if enough(middle) else (middle, count)
    return count


def _fits(
    model: Coefficients,
    demand: Demand,
    limits: BatchLimits,
    goals: Sequence[Goal],
    corrections: Mapping[str, float],
    count: int,
) -> bool:
    run = operate(model, demand, count)
    if run is None:
        return False
    taken = count * run.batch
    if taken > count * limits.batch(demand.context):
        return False
    if taken + _KV_ROOM * math.sqrt(taken * PEAKEDNESS) > count * limits.in_cache(demand.context):
        return False
    for goal in goals:
        predicted = _latency(goal.metric, goal.share, run, model, demand, limits, count)
        if predicted * corrections.get(goal.metric, 1.0) > goal.target:
            return False
    return True


def _token(model: Coefficients, demand: Demand) -> float:
    return model.beta + model.gamma * demand.context


def _tpot(
    run: OperatingPoint, model: Coefficients, demand: Demand, count: int, share: float
) -> float:
    """Return a quantile of the time per token. The batch fluctuates, and so do prompts between a request's tokens."""
    z = _z(share)
    free = 1 - min(run.prefill, _MAX_UTILIZATION)
    batch = run.batch + z * math.sqrt(run.batch * PEAKEDNESS)
    tokens = (model.alpha + run.marginal * batch) / free
    if demand.requests <= 0 or demand.output <= 0 or run.prefill <= 0:
        return tokens
    length = _TYPICAL_LENGTH * demand.output / demand.requests
    prompt = model.delta * demand.prompt / demand.requests
    prompts = demand.requests / count * length * run.step
    return tokens + z * prompt / length * math.sqrt((1 + _PROMPT_VARIATION) * prompts / free)


def _ttft(
    run: OperatingPoint,
    model: Coefficients,
    demand: Demand,
    limits: BatchLimits,
    count: int,
    share: float,
) -> float:
    """Return a quantile of the time to first token: wait for a slot, for earlier prompts, own prompt, one step.

    Slots are pooled over all replicas.
    """
    slots = count * limits.batch(demand.context)
    taken = count * run.batch
    slot_wait = 0.0
    if taken > 0 and math.isfinite(slots):
        if slots <= taken:
            return math.inf
        busy = _NORMAL.cdf((taken - slots) / math.sqrt(taken * PEAKEDNESS))
        if busy > 1 - share and demand.requests > 0:
            service = taken / demand.requests
            slot_wait = service * PEAKEDNESS * math.log(busy / (1 - share)) / (slots - taken)
    if demand.requests <= 0:
        return slot_wait + 2 * run.step
    own = model.delta * demand.prompt / demand.requests
    # NB: arrivals are spread over the replicas nearly in turn, so at each they are more regular than by chance.
    variation = 1 / count + _PROMPT_VARIATION
    mean_wait = demand.requests / count * own**2 * variation / (2 * (1 - run.prefill))
    queue = 0.0
    if run.prefill > 1 - share:
        queue = mean_wait * math.log(run.prefill / (1 - share)) / run.prefill
    return slot_wait + queue + own * (1 + 0.8 * _z(share)) + 2 * run.step


@functools.cache
def _z(share: float) -> float:
    return _NORMAL.inv_cdf(share)
