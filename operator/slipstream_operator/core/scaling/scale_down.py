"""Scaling down: late, in small steps, and reverted if it hurts an objective."""

import dataclasses
import math
from typing import Final

from slipstream_operator.core import wording
from slipstream_operator.core.scaling import learning, stabilization
from slipstream_operator.core.scaling.context import TickContext
from slipstream_operator.core.scaling.inputs import Inputs
from slipstream_operator.core.scaling.metrics.values import Load, Reading
from slipstream_operator.core.scaling.models import forecast
from slipstream_operator.core.scaling.state import State

PAUSE_SECONDS: Final = 30.0
"""Seconds between two steps: longer than a scrape, so that the first step shows in the metrics."""
SHARE: Final = 1 / 3
"""Largest share of the replicas that one step removes; at least one replica."""
_MAX_CAUTION: Final = 2.0
"""Largest factor of the stabilization window after a wrong scale-down."""
_FALLING_SHARE: Final = 0.4
"""Share of the stabilization window that counts while load falls significantly or recurs.

Older needs will not return in that time.
"""
_MAX_BURN_RATE: Final = 2.0
"""Burn rate of the error budget that forbids a scale-down, and reverts a recent one."""
_MIN_REQUESTS: Final = 20.0
"""Requests of a window below which its burn rate is too uncertain."""


def window(inputs: Inputs, state: State) -> float:
    """Return the stabilization window in seconds; at least a cold start, the time to undo a scale-down."""
    start = state.cold.median if state.cold.known else 0.0
    return max(inputs.scale_down_window, start) * state.caution


def harmed_objective(context: TickContext, state: State, current: int) -> Reading | None:
    """Return the objective that got worse after a recent scale-down; None if there is none."""
    inputs = context.inputs
    probation = 2 * max(inputs.rate_window, PAUSE_SECONDS)
    if state.lowered_from <= current or inputs.now - state.lowered_at >= probation:
        return None
    if context.utilization < learning.MIN_UTILIZATION:
        return None
    return next(iter(_overspending(context.readings)), None)


def more_cautious(state: State) -> State:
    """Return the state after a wrong scale-down: the next one has a longer stabilization window."""
    return dataclasses.replace(state, lowered_from=0, caution=min(2 * state.caution, _MAX_CAUTION))


def step(context: TickContext, state: State, current: int) -> tuple[int, str, State]:
    """Return one step down, or the current count and the reason to keep it."""
    inputs = context.inputs
    foretold = forecast.falling(state.outlook) or forecast.cyclic(state.outlook)
    watched = window(inputs, state) * (_FALLING_SHARE if foretold else 1.0)
    enough = stabilization.highest(state.needs, since=inputs.now - watched)
    if enough == 0 and _may_scale_to_zero(inputs, state, context.load):
        return 0, f"No request for {inputs.bounds.idle_after or 0:.0f} s.", state
    enough = max(enough, 1, inputs.bounds.minimum)
    if enough >= current:
        return current, _reason_to_keep(context, state, current), state
    if against := _objection(context, state, enough):
        return (
            current,
            f"Keeping {wording.replicas(current)}: {enough} would be enough, but {against}.",
            state,
        )
    target = max(enough, current - max(1, math.floor(current * SHARE)))
    state = dataclasses.replace(state, lowered_at=inputs.now, lowered_from=current)
    sufficed = wording.agreeing(enough, "replica was", "replicas were")
    return target, f"{sufficed} enough for {watched:.0f} s.", state


def _overspending(readings: tuple[Reading, ...]) -> list[Reading]:
    return [
        reading
        for reading in readings
        if reading.requests >= _MIN_REQUESTS and learning.burn_rate(reading) > _MAX_BURN_RATE
    ]


def _objection(context: TickContext, state: State, enough: int) -> str | None:
    inputs, load, pods = context.inputs, context.load, context.pods
    watched = inputs.now - (inputs.now if state.watched_since is None else state.watched_since)
    pause = min(PAUSE_SECONDS, inputs.scale_down_window)
    if watched < window(inputs, state):
        return f"a lower need must last {window(inputs, state):.0f} s"
    if not load.complete or not isinstance(inputs.readings, tuple):
        return "not every engine reports"
    if inputs.rolling or (pods.starting > 0 and enough > pods.ready):
        return "engines are starting"
    if load.waiting >= max(1.0, 0.5 * context.engines):
        return "requests wait"
    if _overspending(context.readings):
        return "the error budget is being spent"
    if inputs.now - state.since < pause:
        return f"steps down are {pause:.0f} s apart"
    return None


def _may_scale_to_zero(inputs: Inputs, state: State, load: Load) -> bool:
    """Whether the router counted no arrivals for long enough, and no request is in flight."""
    after = inputs.bounds.idle_after
    return (
        inputs.bounds.minimum == 0
        and after is not None
        and state.idle_since is not None
        and inputs.now - state.idle_since >= after
        and load.complete
    )


def _reason_to_keep(context: TickContext, state: State, current: int) -> str:
    pods = context.pods
    coming = f", {pods.starting} starting" if pods.starting > 0 else ""
    if pods.ready == 0:
        busy = "none is ready yet"
    elif state.model.coefficients is None:
        busy = f"{wording.counted(context.load.in_flight, 'request')} in flight, step time not learned yet"
    else:
        busy = f"the ready replicas are {context.utilization:.0%} busy"
    return f"Keeping {wording.replicas(current)}: {busy}{coming}."
