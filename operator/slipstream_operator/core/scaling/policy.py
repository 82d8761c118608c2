"""Scaling policy: `decide` maps inputs and state to a decision and the next state.

The replica count is the work expected when a new pod would be ready, divided by the capacity of a replica within the
objectives. Measurements correct predictions. Missing data never cause a scale-down.
"""

import dataclasses
from typing import Final

from slipstream_operator.core import wording
from slipstream_operator.core.scaling import (
    demand,
    feasibility,
    learning,
    panic,
    scale_down,
    scale_up,
    stabilization,
    supply,
)
from slipstream_operator.core.scaling.context import TickContext
from slipstream_operator.core.scaling.inputs import Inputs
from slipstream_operator.core.scaling.metrics.values import Load, Unknown
from slipstream_operator.core.scaling.models import forecast, sizing, spikes
from slipstream_operator.core.scaling.state import Decision, Numbers, State
from slipstream_operator.core.scaling.supply import Supply

BUDGET_SHARE: Final = 0.14
"""Share of the error budget that sizing may spend; the rest covers unpredictable load, such as jumps."""
UP_SECONDS: Final = 30.0
"""Seconds in which the count doubles, or grows by UP_REPLICAS, at most, except in panic."""
UP_REPLICAS: Final = 4
"""Replicas, as in the default scale-up policy of Kubernetes' HPA: 100 % or 4 pods, there in 15 s."""
GAP_SECONDS: Final = 60.0
"""Seconds of missing data after which a scale-down needs a whole new stabilization window."""


def initial(*, desired: int, now: float) -> State:
    """Return the first state of a service."""
    return State(desired, now, "Initial replica count.")


def wake(state: State, *, now: float) -> tuple[Decision, State]:
    """Return a decision for at least one replica, because requests wait for it."""
    reason = "Requests wait for a first replica."
    desired = max(state.desired, 1)
    if desired != state.desired:
        state = dataclasses.replace(state, desired=desired, since=now, reason=reason)
    return Decision(desired, reason, known=True), state


def decide(inputs: Inputs, state: State) -> tuple[Decision, State]:
    """Return the decision and the next state. The same inputs and state give the same result."""
    bounds = inputs.bounds
    current = min(max(state.desired, bounds.minimum), bounds.maximum)
    pods = supply.survey(
        inputs.pods,
        ordered=0 if bounds.recommend else state.desired,
        ordered_at=state.since,
        now=inputs.now,
        cold=state.cold,
        coming=state.coming,
        provision=inputs.provision_time,
    )
    state = learning.learn_starts(state, pods)
    if not bounds.follows_load:
        return _decision(state, inputs, bounds.minimum, "Fixed by spec.replicas.")
    if bounds.paused:
        return _decision(state, inputs, current, "Paused by spec.scaling.paused.")
    if current == 0:
        if not inputs.held:
            return _decision(state, inputs, 0, "No request since the last replica stopped.")
        decision, state = wake(state, now=inputs.now)
        if isinstance(inputs.load, Unknown):
            return decision, state
        current = decision.desired
    if isinstance(inputs.load, Unknown):
        return _without_data(inputs, state, current, inputs.load)
    return _follow_load(inputs, state, pods, inputs.load, current)


def _without_data(
    inputs: Inputs, state: State, current: int, why: Unknown
) -> tuple[Decision, State]:
    """Hold the count; after a long gap, forget the needs before it."""
    since = inputs.now if state.blind_since is None else state.blind_since
    state = dataclasses.replace(state, blind_since=since, idle_since=None)
    if inputs.now - since >= GAP_SECONDS:
        state = dataclasses.replace(state, needs=(), watched_since=None)
    reason = wording.sentence(f"Holding {wording.replicas(current)}: {why.reason}")
    return _decision(state, inputs, current, reason, known=False)


def _follow_load(
    inputs: Inputs, state: State, pods: Supply, load: Load, current: int
) -> tuple[Decision, State]:
    state = _data_resumed(inputs, state)
    context = _context(inputs, state, pods, load)
    infeasible = feasibility.infeasible(context, state)
    context = dataclasses.replace(context, goals=_goals(inputs, infeasible))
    calm = _without_outlier(context, state)
    lasting = demand.first_attempts(calm.demand, load, engines=inputs.engines)
    state = _with_forecast(context, state, lasting)
    need, enough, reason = _needs(context, state, calm, lasting, current)
    state = dataclasses.replace(
        state,
        needs=stabilization.record(
            state.needs, enough, now=inputs.now, window=scale_down.window(inputs, state)
        ),
        spikes=spikes.update(
            state.spikes,
            work=context.work,
            supply=pods.ready,
            now=inputs.now,
            horizon=context.horizon,
        ),
    )
    target, why, state = _step(context, state, current, need, reason)
    decision, state = _decision(
        state,
        inputs,
        target,
        why,
        known=isinstance(inputs.readings, tuple),
        infeasible=next(iter(infeasible.values()), None),
        limited=pods.limited,
        numbers=Numbers(
            work=context.work,
            requests=context.demand.requests * inputs.engines,
            utilization=context.utilization,
            need=need,
            ready=pods.ready,
            starting=pods.starting,
            horizon=context.horizon,
        ),
    )
    return decision, learning.learn(context, state)


def _data_resumed(inputs: Inputs, state: State) -> State:
    """Return the state after a gap in the data."""
    if state.blind_since is None and state.watched_since is not None:
        return state
    since = inputs.now if state.watched_since is None else state.watched_since
    return dataclasses.replace(state, blind_since=None, watched_since=since)


def _context(inputs: Inputs, state: State, pods: Supply, load: Load) -> TickContext:
    return TickContext(
        inputs=inputs,
        model=state.model.cautious,
        pods=pods,
        load=load,
        readings=inputs.readings if isinstance(inputs.readings, tuple) else (),
        demand=_demand(inputs, state, load),
        goals=(),
        horizon=state.cold.expected(waited=pods.waited) + inputs.rate_window / 2,
    )


def _without_outlier(context: TickContext, state: State) -> TickContext:
    """Return the context without the influence of one outlying pod."""
    calmer = demand.without_outlier(context.load)
    if calmer is None:
        return context
    return dataclasses.replace(context, load=calmer, demand=_demand(context.inputs, state, calmer))


def _with_forecast(context: TickContext, state: State, lasting: sizing.Demand) -> State:
    """Return the state with the current work, without retries, added to the forecast."""
    if context.model is None:
        return state
    work = sizing.work(context.model, lasting)
    outlook = forecast.update(state.outlook, work, now=context.inputs.now, horizon=context.horizon)
    return state if outlook is state.outlook else dataclasses.replace(state, outlook=outlook)


def _needs(
    context: TickContext, state: State, calm: TickContext, lasting: sizing.Demand, current: int
) -> tuple[int, int, str]:
    """Return the needed count, the count that is enough for a scale-down, and the reason for the needed one."""
    need, reason = scale_up.replicas(context, state)
    if calm is not context and need > current:
        without, _ = scale_up.replicas(calm, state)
        need = min(need, without + 1)
    enough = need
    if lasting is not context.demand or scale_up.backlog(context) > 0:
        without, _ = scale_up.replicas(
            dataclasses.replace(context, demand=lasting), state, drain=False
        )
        enough = min(need, without)
    if need > current and context.pods.starting and context.load.cancelled > 0:
        need = max(current, enough)
    if need < current:
        enough = max(enough, scale_up.with_slack(context, state, need))
    return need, enough, reason


def _demand(inputs: Inputs, state: State, load: Load) -> sizing.Demand:
    return demand.estimate(
        load,
        window=inputs.rate_window,
        engines=inputs.engines,
        usual=state.mix,
        conserve="conservation" not in inputs.without,
    )


def _goals(inputs: Inputs, infeasible: dict[str, str]) -> tuple[sizing.Goal, ...]:
    """Return the goals of sizing: a part of the error budget, and no infeasible objective."""
    return tuple(
        [
            sizing.Goal(one.metric, 1 - (1 - one.share) * BUDGET_SHARE, one.target)
            for one in inputs.objectives.latency
            if one.name not in infeasible
        ]
    )


def _step(
    context: TickContext, state: State, current: int, need: int, reason: str
) -> tuple[int, str, State]:
    """Move the count towards the need, within the limits of speed."""
    inputs, pods = context.inputs, context.pods
    maximum = inputs.bounds.maximum
    if hurt := scale_down.harmed_objective(context, state, current):
        state = scale_down.more_cautious(state)
        need = max(need, current + 1)
        reason = f"{hurt.objective.name} got worse with {wording.replicas(current)}, so the last step is undone"
    if need <= current:
        return scale_down.step(context, state, current)
    if pods.broken:
        return current, f"Keeping {current} of {need} replicas needed: {pods.limited}.", state
    if (
        "futility" not in inputs.without
        and need > pods.ready + pods.starting
        and spikes.futile(state.spikes, now=inputs.now, horizon=state.cold.p90)
        and not forecast.foreseen(state.outlook, context.work, horizon=context.horizon)
    ):
        spike = f"such spikes end within {state.cold.p90:.0f} s"
        return current, f"Keeping {wording.replicas(current)}: {reason}, but {spike}.", state
    if inputs.now - state.raised_at >= UP_SECONDS:
        state = dataclasses.replace(state, raised_at=inputs.now, raised_from=current)
    base = min(state.raised_from or current, current)
    limit = maximum if panic.detected(context) else max(base + UP_REPLICAS, 2 * base)
    target = max(current, min(need, limit, maximum))
    if target == current:
        held = "maxReplicas is reached" if current == maximum else "one step was just made"
        return current, f"Keeping {wording.replicas(current)}: {reason}, but {held}.", state
    recently = inputs.now - state.lowered_at < scale_down.window(inputs, state)
    if state.lowered_from > current and recently:
        state = scale_down.more_cautious(state)
    return target, f"{wording.replicas(need)} needed: {reason}.", state


def _decision(
    state: State,
    inputs: Inputs,
    desired: int,
    reason: str,
    *,
    known: bool = True,
    infeasible: str | None = None,
    limited: str | None = None,
    numbers: Numbers | None = None,
) -> tuple[Decision, State]:
    if desired != state.desired:
        state = dataclasses.replace(state, desired=desired, since=inputs.now, reason=reason)
    return Decision(desired, reason, known, infeasible, limited, numbers), state
