"""Scaling policy: `decide` maps inputs and state to a decision and the next state, and nothing else.

Work that arrives, at the time when a pod ordered now would be ready, is divided by what a replica does inside the
objectives. What is measured corrects what is predicted. Missing data only ever forbid a step down.
"""

import dataclasses
from typing import Final

from slipstream_operator.core.scaling import (
    demand,
    feasibility,
    learning,
    panic,
    scale_down,
    scale_up,
    stabilization,
    supply,
    wording,
)
from slipstream_operator.core.scaling.context import Scene
from slipstream_operator.core.scaling.metrics.values import Load, Unknown
from slipstream_operator.core.scaling.models import forecast, sizing, spikes
from slipstream_operator.core.scaling.state import Decision, Inputs, Numbers, State
from slipstream_operator.core.scaling.supply import Supply

BUDGET_SHARE: Final = 0.14
"""Steady state may spend this share of the error budget; the rest is for what no policy can foresee."""
UP_SECONDS: Final = 30.0
UP_REPLICAS: Final = 4
"""In UP_SECONDS the count at most doubles, or grows by this, unless it is an emergency."""
GAP_SECONDS: Final = 60.0
"""Data may be missing for so long before a whole new window must be watched."""


def initial(*, desired: int, now: float) -> State:
    """State of a service that has none yet."""
    return State(desired, now, "Initial replica count.")


def woken(state: State, *, now: float) -> tuple[Decision, State]:
    """At least one replica, because requests wait for the first."""
    reason = "Requests wait for a first replica."
    desired = max(state.desired, 1)
    if desired != state.desired:
        state = dataclasses.replace(state, desired=desired, since=now, reason=reason)
    return Decision(desired, reason, known=True), state


def decide(inputs: Inputs, state: State) -> tuple[Decision, State]:
    """The next count. Deterministic: the same inputs and state give the same decision."""
    bounds = inputs.bounds
    current = min(max(state.desired, bounds.minimum), bounds.maximum)
    pods = supply.survey(
        inputs.pods,
        ordered=0 if bounds.recommend else state.desired,
        ordered_at=state.since,
        now=inputs.now,
        cold=state.cold,
        coming=state.coming,
        provision=inputs.provision,
    )
    state = learning.starts(state, pods)
    if not bounds.follows_load:
        return _settle(state, inputs, bounds.minimum, "Fixed by spec.replicas.")
    if bounds.paused:
        return _settle(state, inputs, current, "Paused by spec.scaling.paused.")
    if current == 0:
        if not inputs.held:
            return _settle(state, inputs, 0, "No request since the last replica stopped.")
        decision, state = woken(state, now=inputs.now)
        if isinstance(inputs.load, Unknown):
            return decision, state
        current = decision.desired
    if isinstance(inputs.load, Unknown):
        return _blind(inputs, state, current, inputs.load)
    return _follow(inputs, state, pods, inputs.load, current)


def _blind(inputs: Inputs, state: State, current: int, why: Unknown) -> tuple[Decision, State]:
    """Hold; after a long gap the past says nothing about a step down."""
    since = inputs.now if state.blind_since is None else state.blind_since
    state = dataclasses.replace(state, blind_since=since, idle_since=None)
    if inputs.now - since >= GAP_SECONDS:
        state = dataclasses.replace(state, needs=(), watched_since=None)
    reason = f"Holding {wording.replicas(current)}: {why.reason}."
    return _settle(state, inputs, current, reason, known=False)


def _follow(
    inputs: Inputs, state: State, pods: Supply, load: Load, current: int
) -> tuple[Decision, State]:
    state = _sighted(inputs, state)
    scene = _scene(inputs, state, pods, load)
    hopeless = feasibility.hopeless(scene, state)
    scene = dataclasses.replace(scene, goals=_goals(inputs, hopeless))
    calm = _without_outlier(scene, state)
    lasting = demand.first_attempts(calm.asked, load, engines=inputs.engines)
    state = _foreseen(scene, state, lasting)
    need, enough, reason = _needs(scene, state, calm, lasting, current)
    state = dataclasses.replace(
        state,
        needs=stabilization.noted(
            state.needs, enough, now=inputs.now, window=scale_down.window(inputs, state)
        ),
        spikes=spikes.follow(
            state.spikes, work=scene.work, supply=pods.ready, now=inputs.now, horizon=scene.horizon
        ),
    )
    target, why, state = _step(scene, state, current, need, reason)
    decision, state = _settle(
        state,
        inputs,
        target,
        why,
        known=isinstance(inputs.readings, tuple),
        infeasible=next(iter(hopeless.values()), None),
        limited=pods.limited,
        numbers=Numbers(
            work=scene.work,
            requests=scene.asked.requests * inputs.engines,
            utilisation=scene.utilisation,
            need=need,
            ready=pods.ready,
            starting=pods.starting,
            horizon=scene.horizon,
        ),
    )
    return decision, learning.after(scene, state)


def _sighted(inputs: Inputs, state: State) -> State:
    """With the end of a gap in the data noted."""
    if state.blind_since is None and state.watched_since is not None:
        return state
    since = inputs.now if state.watched_since is None else state.watched_since
    return dataclasses.replace(state, blind_since=None, watched_since=since)


def _scene(inputs: Inputs, state: State, pods: Supply, load: Load) -> Scene:
    return Scene(
        inputs=inputs,
        model=state.model.cautious,
        pods=pods,
        load=load,
        readings=inputs.readings if isinstance(inputs.readings, tuple) else (),
        asked=_asked(inputs, state, load),
        goals=(),
        horizon=state.cold.expected(waited=pods.waited) + inputs.window / 2,
    )


def _without_outlier(scene: Scene, state: State) -> Scene:
    """As it would be if the one pod that stands out were like the others."""
    calmer = demand.without_outlier(scene.load)
    if calmer is None:
        return scene
    return dataclasses.replace(scene, load=calmer, asked=_asked(scene.inputs, state, calmer))


def _foreseen(scene: Scene, state: State, lasting: sizing.Demand) -> State:
    """With one more point of what is forecast: the work that no retry repeats."""
    if scene.model is None:
        return state
    work = sizing.work(scene.model, lasting)
    outlook = forecast.update(state.outlook, work, now=scene.inputs.now, horizon=scene.horizon)
    return state if outlook is state.outlook else dataclasses.replace(state, outlook=outlook)


def _needs(
    scene: Scene, state: State, calm: Scene, lasting: sizing.Demand, current: int
) -> tuple[int, int, str]:
    """The count that is needed, the one that would be enough for good, and the reason for the former."""
    need, reason = scale_up.replicas(scene, state)
    if calm is not scene and need > current:
        without, _ = scale_up.replicas(calm, state)
        need = min(need, without + 1)
    enough = need
    if lasting is not scene.asked or scale_up.backlog(scene) > 0:
        without, _ = scale_up.replicas(
            dataclasses.replace(scene, asked=lasting), state, drain=False
        )
        enough = min(need, without)
    if need > current and scene.pods.starting and scene.load.cancelled > 0:
        need = max(current, enough)
    if need < current:
        enough = max(enough, scale_up.with_slack(scene, state, need))
    return need, enough, reason


def _asked(inputs: Inputs, state: State, load: Load) -> sizing.Demand:
    return demand.estimate(
        load,
        window=inputs.window,
        engines=inputs.engines,
        usual=state.mix,
        conserve="conservation" not in inputs.without,
    )


def _goals(inputs: Inputs, hopeless: dict[str, str]) -> tuple[sizing.Goal, ...]:
    """Return the goals of steady state: less than the whole error budget, and no infeasible objective."""
    return tuple(
        [
            sizing.Goal(one.metric, 1 - (1 - one.share) * BUDGET_SHARE, one.target)
            for one in inputs.objectives.latency
            if one.name not in hopeless
        ]
    )


def _step(
    scene: Scene, state: State, current: int, need: int, reason: str
) -> tuple[int, str, State]:
    """Move the count towards the need, no faster than the limits allow."""
    inputs, pods = scene.inputs, scene.pods
    maximum = inputs.bounds.maximum
    if hurt := scale_down.regretted(scene, state, current):
        state = scale_down.cautious(state)
        need = max(need, current + 1)
        reason = f"{hurt.objective.name} got worse with {wording.replicas(current)}, so the last step is undone"
    if need <= current:
        return scale_down.step(scene, state, current)
    if pods.broken:
        return current, f"Keeping {current} of {need} replicas needed: {pods.limited}.", state
    if (
        "futility" not in inputs.without
        and need > pods.ready + pods.starting
        and spikes.futile(state.spikes, now=inputs.now, horizon=state.cold.p90)
        and not forecast.foreseen(state.outlook, scene.work, horizon=scene.horizon)
    ):
        spike = f"such spikes end within {state.cold.p90:.0f} s"
        return current, f"Keeping {wording.replicas(current)}: {reason}, but {spike}.", state
    if inputs.now - state.raised_at >= UP_SECONDS:
        state = dataclasses.replace(state, raised_at=inputs.now, raised_from=current)
    base = min(state.raised_from or current, current)
    limit = maximum if panic.seen(scene) else max(base + UP_REPLICAS, 2 * base)
    target = max(current, min(need, limit, maximum))
    if target == current:
        held = "maxReplicas is reached" if current == maximum else "one step was just made"
        return current, f"Keeping {wording.replicas(current)}: {reason}, but {held}.", state
    recently = inputs.now - state.lowered_at < scale_down.window(inputs, state)
    if state.lowered_from > current and recently:
        state = scale_down.cautious(state)
    return target, f"{wording.replicas(need)} needed: {reason}.", state


def _settle(
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
