"""Learning from a tick: cold starts, step times, corrections, idle time."""

import dataclasses
import math
from typing import Final

from slipstream_operator.core import histograms
from slipstream_operator.core.scaling import demand
from slipstream_operator.core.scaling.context import TickContext
from slipstream_operator.core.scaling.inputs import Inputs
from slipstream_operator.core.scaling.metrics.values import Load, Reading
from slipstream_operator.core.scaling.models import (
    coldstart,
    concurrency,
    feedback,
    sizing,
    steptime,
)
from slipstream_operator.core.scaling.state import State
from slipstream_operator.core.scaling.supply import Supply

EVERY: Final = 30.0
"""Seconds between two observations: half of the default rate window, since windows overlap."""
MIN_UTILIZATION: Final = feedback.MIN_UTILIZATION
KV_TARGET: Final = 0.9
"""Share of the KV cache in use that a replica should stay under, as in `sizing.KV_FULL`."""
_CAUTION_SECONDS: Final = 3600.0
"""Time constant, in seconds, with which a longer window after a wrong scale-down returns to normal."""
_SETTLED_FACTOR: Final = 5.0
"""Rate windows after a change of replicas before the spent error budget is judged: its range is 5 minutes."""


def learn_starts(state: State, pods: Supply) -> State:
    """Return the state with the cold starts that ended since the last tick."""
    if pods.coming == state.coming and not pods.started:
        return state
    cold = coldstart.learn(state.cold, pods.started) if pods.started else state.cold
    return dataclasses.replace(state, cold=cold, coming=pods.coming)


def missed(reading: Reading) -> bool:
    """Whether an objective is missed significantly: by more than two standard errors."""
    attained = reading.attained
    if attained is None or not reading.telling:
        return False
    share = reading.objective.share
    chance = 2 * math.sqrt(share * (1 - share) / reading.requests)
    return attained < share - chance


def burn_rate(reading: Reading) -> float:
    """Return the burn rate: the present spending of the error budget over the allowed one."""
    attained = reading.attained
    return 0.0 if attained is None else (1 - attained) / (1 - reading.objective.share)


def busy(context: TickContext, state: State) -> bool:
    """Whether more replicas could improve a bad latency."""
    model = state.model.coefficients
    if model is None:
        return context.load.in_flight >= context.engines
    return sizing.work(model, context.demand) >= MIN_UTILIZATION * context.pods.ready


def learn(context: TickContext, state: State) -> State:
    """Return the state with the lessons of this tick."""
    inputs, load, pods = context.inputs, context.load, context.pods
    state = _idleness(inputs, state, load)
    seconds = min(inputs.now - state.learned_at, 2 * EVERY)
    if seconds < EVERY:
        return state
    caution = 1 + (state.caution - 1) * math.exp(-seconds / _CAUTION_SECONDS)
    state = dataclasses.replace(state, learned_at=inputs.now, caution=caution)
    if inputs.revision != state.revision:
        state = dataclasses.replace(
            state, revision=inputs.revision, model=steptime.StepTimeModel(), concurrency=None
        )
    if not load.complete:
        return state
    if context.demand.output > 0:
        mix = context.demand.scaled(1 / context.demand.output)
        state = dataclasses.replace(state, mix=mix if mix.plausible else state.mix)
    seen = demand.observations(load, window=inputs.rate_window, engines=inputs.engines)
    if seen:
        state = dataclasses.replace(state, model=steptime.learn(state.model, seen))
    if inputs.now - pods.newest < inputs.rate_window or pods.ready == 0:
        return state
    if state.model.coefficients is None:
        return state if pods.starting else _concurrency(context, state)
    if "feedback" in inputs.without:
        return state
    return _feedback(context, state, seconds=seconds)


def _idleness(inputs: Inputs, state: State, load: Load) -> State:
    """Record the start of the time without arrivals and requests in flight; without a router it is unknown."""
    quiet = (
        load.arrivals == 0
        and inputs.held == 0
        and load.complete
        and load.in_flight == 0
        and all(pod.started == 0 and pod.running_mean == 0 for pod in load.pods)
    )
    since = None if not quiet else inputs.now if state.idle_since is None else state.idle_since
    return state if since == state.idle_since else dataclasses.replace(state, idle_since=since)


def _concurrency(context: TickContext, state: State) -> State:
    inside = sum([pod.running_mean + pod.waiting_mean for pod in context.load.pods])
    slow = max(
        [reading.pressure or 0.0 for reading in context.readings if reading.requests > 0],
        default=0.0,
    )
    learned = concurrency.learn(
        state.concurrency,
        per_replica=inside / context.pods.ready,
        pressure=max(slow, context.load.kv_usage / KV_TARGET),
    )
    return dataclasses.replace(state, concurrency=learned)


def _feedback(context: TickContext, state: State, *, seconds: float) -> State:
    """Correct the model. While engines start, high latencies may be due to missing replicas, so only low ones count."""
    if not 0 < context.utilization < 1:
        return state
    pods = context.pods
    weight = min(1.0, context.utilization / MIN_UTILIZATION)
    model = state.model.cautious
    assert model is not None
    corrections = state.feedback
    by_metric = {goal.metric: goal for goal in context.goals}
    limits = sizing.BatchLimits(context.load.kv_tokens, context.inputs.max_sequences)
    for reading in context.readings:
        goal = by_metric.get(reading.objective.metric)
        if goal is None or reading.now.count < feedback.MIN_REQUESTS:
            continue
        predicted = sizing.latency(
            goal.metric, goal.share, model, context.demand, limits, pods.ready
        )
        measured = histograms.lognormal_quantile(reading.now, goal.share, expected=predicted)
        known = corrections.corrections.get(goal.metric, 1.0)
        if measured is None or (pods.starting and measured >= known * predicted):
            continue
        corrections = feedback.with_correction(
            corrections,
            goal.metric,
            measured=measured,
            predicted=predicted,
            seconds=weight * seconds,
        )
    if not pods.starting:
        corrections = feedback.with_kappa(
            corrections, spent=_spent(context, state), seconds=seconds
        )
    return dataclasses.replace(state, feedback=corrections)


def _spent(context: TickContext, state: State) -> float | None:
    """Return the burn rate of the error budget, if the replica count can change it."""
    inputs, pods = context.inputs, context.pods
    calm = inputs.now - max(pods.newest, state.since) >= _SETTLED_FACTOR * inputs.rate_window
    if not calm or context.utilization < MIN_UTILIZATION or state.desired >= inputs.bounds.maximum:
        return None
    spent = [
        (1 - attained) / (1 - reading.objective.share)
        for reading in context.readings
        if reading.recent.count >= feedback.MIN_REQUESTS
        and (attained := histograms.lognormal_attainment(reading.recent, reading.objective.target))
        is not None
    ]
    return max(spent, default=None)
