"""Steps down: late, small, and taken back if they were wrong."""

import dataclasses
import math
from typing import Final

from slipstream_operator.core.scaling import learning, stabilization, wording
from slipstream_operator.core.scaling.context import TickContext
from slipstream_operator.core.scaling.inputs import Inputs
from slipstream_operator.core.scaling.metrics.values import Load, Reading
from slipstream_operator.core.scaling.models import forecast
from slipstream_operator.core.scaling.state import State

PAUSE_SECONDS: Final = 30.0
SHARE: Final = 1 / 3
"""One step takes a third at most, or one replica."""
_MAX_CAUTION: Final = 2.0
_FORETOLD: Final = 0.4
"""Share of the window that counts while load falls beyond doubt, or comes again when it is known to: older needs are
not about to come back."""
_BURNING: Final = 2.0
_ENOUGH: Final = 20.0


def window(inputs: Inputs, state: State) -> float:
    """Seconds that a lower need must last: what was given up would take a cold start to come back."""
    start = state.cold.median if state.cold.known else 0.0
    return max(inputs.scale_down_window, start) * state.caution


def harmed_objective(context: TickContext, state: State, current: int) -> Reading | None:
    """The objective that the last step down hurts, while it is on probation."""
    inputs = context.inputs
    probation = 2 * max(inputs.rate_window, PAUSE_SECONDS)
    if state.lowered_from <= current or inputs.now - state.lowered_at >= probation:
        return None
    if context.utilisation < learning.MIN_UTILISATION:
        return None
    return next(iter(_overspending(context.readings)), None)


def more_cautious(state: State) -> State:
    """The state after a step down that was wrong: the next lower need must last longer."""
    return dataclasses.replace(state, lowered_from=0, caution=min(2 * state.caution, _MAX_CAUTION))


def step(context: TickContext, state: State, current: int) -> tuple[int, str, State]:
    """One careful step down, or the present count with what speaks against one."""
    inputs = context.inputs
    foretold = forecast.falling(state.outlook) or forecast.cyclic(state.outlook)
    watched = window(inputs, state) * (_FORETOLD if foretold else 1.0)
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
        if reading.requests >= _ENOUGH and learning.burn_rate(reading) > _BURNING
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
    """Zero needs proof: the router counts arrivals, none came for long enough, and nothing is inside."""
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
        busy = f"{context.load.in_flight:.0f} requests in flight, step time not learned yet"
    else:
        busy = f"the ready replicas are {context.utilisation:.0%} busy"
    return f"Keeping {wording.replicas(current)}: {busy}{coming}."
