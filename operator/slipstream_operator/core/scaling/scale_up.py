"""Replicas that are needed when a new pod would be ready: by the model, by measured latency, by the queue."""

import dataclasses
import math
from typing import Final

from slipstream_operator.api import units
from slipstream_operator.core import wording
from slipstream_operator.core.scaling import demand, learning, panic
from slipstream_operator.core.scaling.context import TickContext
from slipstream_operator.core.scaling.models import concurrency, forecast, sizing
from slipstream_operator.core.scaling.state import State

_DRAIN_SECONDS: Final = 60.0
"""Seconds in which a backlog is drained, or the time of a cold start if that is longer."""
_FULL: Final = 0.95
"""Utilization at which ready replicas drain a backlog."""
_UNSURE_GROWTH: Final = 4
"""Largest count by requests in flight, as a multiple of the ready replicas that were measured.

At most half of the ready replicas may be too new to be measured.
"""
_SLACK_TARGET: Final = 0.9
"""Factor of the targets that a lower count must meet: the gap prevents flapping, as a dead band does."""
_HEADROOM_DOWN: Final = 0.7
"""Share of the learned capacity, in requests in flight, that a lower count may use."""


def replicas(context: TickContext, state: State, *, drain: bool = True) -> tuple[int, str]:
    """Return the needed replicas and the reason; `drain` says whether to drain the backlog."""
    inputs, pods = context.inputs, context.pods
    options = [(inputs.bounds.minimum, "minReplicas is enough")]
    if inputs.held:
        options.append(
            (
                1,
                f"{wording.agreeing(round(inputs.held), 'request waits', 'requests wait')} for a replica",
            )
        )
    if context.model is None:
        options.append(_by_concurrency(context, state))
    else:
        now = later = context.work
        if "forecast" not in inputs.without and pods.limited is None:
            lasting = demand.first_attempts(context.demand, context.load, engines=inputs.engines)
            first = sizing.work(context.model, lasting)
            later = forecast.ahead(state.outlook, first, now=inputs.now, horizon=context.horizon)
            later = max(now, later)
        if drain:
            later += backlog(context)
        factor = later / now * state.feedback.kappa if now > 0 else 1.0
        count = _by_model(context, state, context.demand.scaled(factor), context.goals)
        ahead = "" if later < now * 1.02 else f", {later:.1f} in {context.horizon:.0f} s"
        options.append((count, f"the load keeps {now:.1f} replicas busy{ahead}"))
        wanted = inputs.objectives.throughput
        served = context.demand if context.demand.output > 0 else state.mix
        if wanted is not None and served is not None:
            mix = served.scaled(wanted / inputs.engines / served.output)
            count = _by_model(context, state, mix, context.goals)
            options.append((count, f"the throughput objective is {wanted} tokens/s"))
    if not pods.starting and inputs.now - pods.newest >= inputs.rate_window:
        options.append(_by_measurements(context, state))
    return max(options, key=lambda option: option[0])


def _by_concurrency(context: TickContext, state: State) -> tuple[int, str]:
    """Return the count for the requests in flight, while no step time is known."""
    inputs, ready = context.inputs, context.pods.ready
    count = concurrency.replicas(state.concurrency, in_flight=context.load.in_flight)
    tried = sum(
        pod.ready_at is not None and inputs.now - pod.ready_at >= inputs.rate_window
        for pod in inputs.pods
    )
    count = min(count, _UNSURE_GROWTH * min(ready, 2 * max(tried, 1)))
    load = wording.counted(context.load.in_flight, "request")
    return count, f"{load} in flight, and one replica carries {state.concurrency or 0:.1f}"


def _by_model(
    context: TickContext,
    state: State,
    required: sizing.Demand,
    goals: tuple[sizing.Goal, ...],
    *,
    least: int = 1,
) -> int:
    model, inputs = context.model, context.inputs
    assert model is not None
    return sizing.replicas(
        model,
        required,
        sizing.BatchLimits(context.load.kv_tokens, inputs.max_sequences),
        goals,
        corrections=state.feedback.corrections if "feedback" not in inputs.without else {},
        start=state.needs[-1][1] if state.needs else least,
        most=4 * inputs.bounds.maximum,
        least=least,
    )


def backlog(context: TickContext) -> float:
    """Return the extra replicas needed to drain the backlog that remains once new pods are ready.

    They are no more than those for the load itself, since they are idle afterwards.
    """
    pods, work = context.pods, context.work
    waiting = (context.load.waiting + (context.inputs.held or 0.0)) / context.inputs.engines
    if waiting <= pods.ready or context.demand.requests <= 0:
        return 0.0
    queued = waiting * work / context.demand.requests
    left = queued + (work - _FULL * pods.ready) * context.horizon
    return min(max(0.0, left) / max(_DRAIN_SECONDS, context.horizon), work)


def _by_measurements(context: TickContext, state: State) -> tuple[int, str]:
    """Return the count by measured latency and by the queue, independent of the model."""
    pods, load = context.pods, context.load
    queues = sorted([min(pod.waiting, pod.waiting_mean) for pod in load.pods])
    queue = sum(
        [*queues[:-2], *(2 * queues[-2:-1] or queues)]
    )  # the longest queue may be that of one outlying pod
    growth = 1.0 + min(1.0, queue / max(load.running, 1.0)) if queue >= context.engines else 1.0
    reason = (
        wording.agreeing(round(load.waiting), "request waits", "requests wait") + " in the engines"
    )
    wanted = {goal.metric for goal in context.goals}
    missed = [
        reading
        for reading in context.readings
        if reading.objective.metric in wanted and learning.missed(reading)
    ]
    busy = growth > 1 or learning.busy(context, state)
    if missed and busy:
        worst = max(missed, key=lambda reading: reading.pressure or 0.0)
        latency = units.format_seconds(worst.current or 0.0)
        reason = f"{worst.objective.name} is {latency}, over its target of {worst.objective.text}"
        growth = max(growth, 1.1 if state.model.coefficients else min(worst.pressure or 1.0, 2.0))
    elif wanted and state.model.coefficients and load.kv_usage < panic.KV_ALARM:
        growth = 1.0
    if load.kv_usage > panic.KV_ALARM and growth == 1.0:
        growth, reason = 1.1, f"the KV cache is {load.kv_usage:.0%} full"
    return (math.ceil(pods.ready * growth - 1e-9) if growth > 1 else 0, reason)


def with_slack(context: TickContext, state: State, need: int) -> int:
    """Return the count for tighter targets, a lower bound of a scale-down."""
    if context.model is None:
        return concurrency.replicas(
            state.concurrency, in_flight=context.load.in_flight, headroom=_HEADROOM_DOWN
        )
    tighter = tuple(
        [dataclasses.replace(goal, target=goal.target * _SLACK_TARGET) for goal in context.goals]
    )
    return _by_model(
        context, state, context.demand.scaled(state.feedback.kappa), tighter, least=max(need, 1)
    )
