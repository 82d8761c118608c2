"""How many replicas: `decide` maps inputs and state to a decision and the next state, and nothing else.

Work that arrives, at the time when a pod ordered now would be ready, is divided by what a replica does inside the
objectives. What is measured corrects what is predicted. Missing data only ever forbid a step down.
"""

import dataclasses
import math
from typing import Final

from slipstream_operator.api import units
from slipstream_operator.core.scaling import (
    concurrency,
    demand,
    descent,
    forecast,
    learning,
    needs,
    sizing,
    spikes,
    supply,
)
from slipstream_operator.core.scaling.signals import Load, Reading, Unknown
from slipstream_operator.core.scaling.state import Decision, Inputs, Numbers, State
from slipstream_operator.core.scaling.supply import Supply

BUDGET_SHARE: Final = 0.14
"""Steady state may spend this share of the error budget; the rest is for what no policy can foresee."""
UP_SECONDS: Final = 30.0
UP_REPLICAS: Final = 4
"""In UP_SECONDS the count at most doubles, or grows by this, unless it is an emergency."""
GAP_SECONDS: Final = 60.0
"""Data may be missing for so long before a whole new window must be watched."""
MIN_REQUESTS: Final = 5.0
"""Requests in the rate window below which a percentile says nothing."""
_DRAIN_SECONDS: Final = 60.0
"""What waits is worked off within this time, or within that of a start."""
_FULL: Final = 0.95
_KV_ALARM: Final = 0.92
_BURN_ALARM: Final = 14.0
_UNSURE_GROWTH: Final = 4
"""Where no step time is known, so many times the ready replicas are the most that requests in flight can ask for, of
which at most half may be too new to show in what is measured."""
_SLACK_TARGET: Final = 0.9
"""A count must meet targets this much tighter to be enough for a step down: the gap keeps it from flapping."""
_HEADROOM_DOWN: Final = 0.7


def initial(*, desired: int, now: float) -> State:
    """State of a service that has none yet."""
    return State(desired, now, "as the service was found")


def woken(state: State, *, now: float) -> tuple[Decision, State]:
    """At least one replica, because requests wait for the first."""
    reason = "requests wait for a first replica"
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
    )
    state = learning.starts(state, pods)
    if not bounds.follows_load:
        return _settle(state, inputs, bounds.minimum, "spec.replicas says so")
    if bounds.paused:
        return _settle(state, inputs, current, "spec.scaling.paused holds the count")
    if current == 0:
        if not inputs.held:
            return _settle(state, inputs, 0, "no request came since the last replica stopped")
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
    return _settle(state, inputs, current, f"holding {current}: {why.reason}", known=False)


@dataclasses.dataclass(frozen=True, slots=True)
class _Scene:
    """What a decision looks at, beside the state."""

    inputs: Inputs
    pods: Supply
    load: Load
    readings: tuple[Reading, ...]
    asked: sizing.Demand
    goals: tuple[sizing.Goal, ...]
    horizon: float
    """Seconds until a pod that is ordered now would be ready and measured."""
    work: float
    """Replicas that the load keeps busy; 0 if the step time is not known."""

    @property
    def utilisation(self) -> float:
        """Load of the ready pods; above 1 they can't keep up."""
        return self.work / max(self.pods.ready, 1)


def _follow(
    inputs: Inputs, state: State, pods: Supply, load: Load, current: int
) -> tuple[Decision, State]:
    readings = inputs.readings if isinstance(inputs.readings, tuple) else ()
    if state.blind_since is not None or state.watched_since is None:
        since = inputs.now if state.watched_since is None else state.watched_since
        state = dataclasses.replace(state, blind_since=None, watched_since=since)
    calmer = demand.without_outlier(load)
    asked = _asked(inputs, state, load)
    usual = asked if calmer is None else _asked(inputs, state, calmer)
    lasting = demand.first_attempts(usual, load)
    model = state.model.cautious
    work = 0.0 if model is None else sizing.work(model, asked)
    scene = _Scene(
        inputs=inputs,
        pods=pods,
        load=load,
        readings=readings,
        asked=asked,
        goals=(),
        horizon=state.cold.expected(waited=pods.waited) + inputs.window / 2,
        work=work,
    )
    hopeless = _hopeless(scene, state)
    scene = dataclasses.replace(scene, goals=_goals(inputs, hopeless))
    if model is not None:
        outlook = forecast.update(
            state.outlook, sizing.work(model, lasting), now=inputs.now, horizon=scene.horizon
        )
        if outlook is not state.outlook:
            state = dataclasses.replace(state, outlook=outlook)
    need, reason = _need(scene, state)
    if calmer is not None and need > current:
        without, _ = _need(dataclasses.replace(scene, load=calmer, asked=usual), state)
        need = min(need, without + 1)
    enough = need
    if lasting is not asked or _drain(scene, work) > 0:
        without, _ = _need(dataclasses.replace(scene, asked=lasting), state, drain=False)
        enough = min(need, without)
    if need > current and pods.starting and load.cancelled > 0:
        need = max(current, enough)
    if need < current:
        enough = max(enough, _lower(scene, state, need))
    window = descent.window(inputs, state)
    state = dataclasses.replace(
        state,
        needs=needs.noted(state.needs, enough, now=inputs.now, window=window),
        spikes=spikes.follow(
            state.spikes, work=work, supply=pods.ready, now=inputs.now, horizon=scene.horizon
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
            work=work,
            requests=asked.requests,
            utilisation=scene.utilisation,
            need=need,
            ready=pods.ready,
            starting=pods.starting,
            horizon=scene.horizon,
        ),
    )
    state = learning.after(
        inputs,
        state,
        load,
        readings,
        asked,
        pods,
        utilisation=scene.utilisation,
        goals=scene.goals,
    )
    return decision, state


def _asked(inputs: Inputs, state: State, load: Load) -> sizing.Demand:
    return demand.estimate(
        load,
        window=inputs.window,
        usual=state.mix,
        conserve="conservation" not in inputs.without,
    )


def _goals(inputs: Inputs, hopeless: dict[str, str]) -> tuple[sizing.Goal, ...]:
    """What steady state aims at: less than the whole error budget, and nothing that can't be had."""
    return tuple(
        [
            sizing.Goal(one.metric, 1 - (1 - one.share) * BUDGET_SHARE, one.target)
            for one in inputs.objectives.latency
            if one.name not in hopeless
        ]
    )


def _need(scene: _Scene, state: State, *, drain: bool = True) -> tuple[int, str]:
    """The count that is needed when a pod ordered now is ready, and why."""
    inputs, pods = scene.inputs, scene.pods
    options = [(inputs.bounds.minimum, "minReplicas is enough")]
    if inputs.held:
        options.append((1, f"{inputs.held:.0f} requests wait for a replica"))
    model = state.model.cautious
    if model is None:
        options.append(_by_concurrency(scene, state))
    else:
        now = sizing.work(model, scene.asked)
        later = now
        if "forecast" not in inputs.without and pods.limited is None:
            first = sizing.work(model, demand.first_attempts(scene.asked, scene.load))
            later = forecast.ahead(state.outlook, first, now=inputs.now, horizon=scene.horizon)
            later = max(now, later)
        if drain:
            later += _drain(scene, now)
        factor = later / now * state.feedback.kappa if now > 0 else 1.0
        count = _sized(scene, state, scene.asked.scaled(factor), scene.goals)
        ahead = "" if later < now * 1.02 else f", {later:.1f} in {scene.horizon:.0f} s"
        options.append((count, f"the load keeps {now:.1f} replicas busy{ahead}"))
        wanted = inputs.objectives.throughput
        served = scene.asked if scene.asked.output > 0 else state.mix
        if wanted is not None and served is not None:
            mix = served.scaled(wanted / served.output)
            count = _sized(scene, state, mix, scene.goals)
            options.append((count, f"{wanted} tokens/s are asked for"))
    if not pods.starting and inputs.now - pods.newest >= inputs.window:
        options.append(_pressed(scene, state))
    return max(options, key=lambda option: option[0])


def _by_concurrency(scene: _Scene, state: State) -> tuple[int, str]:
    """What the requests in flight ask for, where no step time is known."""
    inputs, ready = scene.inputs, scene.pods.ready
    count = concurrency.replicas(state.concurrency, in_flight=scene.load.in_flight)
    tried = sum(
        pod.ready_at is not None and inputs.now - pod.ready_at >= inputs.window
        for pod in inputs.pods
    )
    count = min(count, _UNSURE_GROWTH * min(ready, 2 * max(tried, 1)))
    return (
        count,
        f"{scene.load.in_flight:.0f} requests in flight, and one replica carries {state.concurrency or 0:.1f}",
    )


def _sized(
    scene: _Scene,
    state: State,
    asked: sizing.Demand,
    goals: tuple[sizing.Goal, ...],
    *,
    least: int = 1,
) -> int:
    model, inputs = state.model.cautious, scene.inputs
    assert model is not None
    return sizing.replicas(
        model,
        asked,
        sizing.Limits(scene.load.kv_tokens, inputs.max_sequences),
        goals,
        corrections=state.feedback.corrections if "feedback" not in inputs.without else {},
        start=state.needs[-1][1] if state.needs else least,
        most=4 * inputs.bounds.maximum,
        least=least,
    )


def _drain(scene: _Scene, work: float) -> float:
    """Replicas more, to work off in good time what will still wait when new pods are ready; no more than for the load
    itself: they stand idle right after."""
    pods, waiting = scene.pods, scene.load.waiting + (scene.inputs.held or 0.0)
    if waiting <= pods.ready or scene.asked.requests <= 0:
        return 0.0
    queued = waiting * work / scene.asked.requests
    left = queued + (work - _FULL * pods.ready) * scene.horizon
    return min(max(0.0, left) / max(_DRAIN_SECONDS, scene.horizon), work)


def _pressed(scene: _Scene, state: State) -> tuple[int, str]:
    """What the measured latency and the queue ask for, whatever the model says."""
    pods, load = scene.pods, scene.load
    queues = sorted([min(pod.waiting, pod.waiting_mean) for pod in load.pods])
    queue = sum([*queues[:-2], *(2 * queues[-2:-1] or queues)])  # the longest may be one pod's own
    growth = 1.0 + min(1.0, queue / max(load.running, 1.0)) if queue >= pods.ready else 1.0
    reason = f"{load.waiting:.0f} requests wait in the engines"
    wanted = {goal.metric for goal in scene.goals}
    missed = [
        reading
        for reading in scene.readings
        if reading.objective.metric in wanted and learning.missed(reading, at_least=MIN_REQUESTS)
    ]
    busy = growth > 1 or learning.busy(scene.inputs, state, load, pods, scene.asked)
    if missed and busy:
        worst = max(missed, key=lambda reading: reading.pressure or 0.0)
        latency = units.format_seconds(worst.current or 0.0)
        reason = f"{worst.objective.name} is {latency}, over its target of {worst.objective.text}"
        growth = max(growth, 1.1 if state.model.coefficients else min(worst.pressure or 1.0, 2.0))
    elif wanted and state.model.coefficients and load.kv_usage < _KV_ALARM:
        growth = 1.0
    if load.kv_usage > _KV_ALARM and growth == 1.0:
        growth, reason = 1.1, f"the KV cache is {load.kv_usage:.0%} full"
    return (math.ceil(pods.ready * growth - 1e-9) if growth > 1 else 0, reason)


def _lower(scene: _Scene, state: State, need: int) -> int:
    """The need with tighter targets, which a step down must not go below."""
    if state.model.cautious is None:
        return concurrency.replicas(
            state.concurrency, in_flight=scene.load.in_flight, headroom=_HEADROOM_DOWN
        )
    tighter = tuple(
        [dataclasses.replace(goal, target=goal.target * _SLACK_TARGET) for goal in scene.goals]
    )
    return _sized(
        scene, state, scene.asked.scaled(state.feedback.kappa), tighter, least=max(need, 1)
    )


def _hopeless(scene: _Scene, state: State) -> dict[str, str]:
    """Objectives that no number of replicas would meet -> what would be feasible."""
    found = {}
    load, pods = scene.load, scene.pods
    for reading in scene.readings:
        if not learning.missed(reading, at_least=MIN_REQUESTS):
            continue
        name, current = reading.objective.name, units.format_seconds(reading.current or 0.0)
        model = state.model.coefficients
        if model is not None and scene.asked.requests > 0:
            floor = sizing.latency(
                reading.objective.metric,
                reading.objective.share,
                model,
                scene.asked.scaled(1e-3),
                sizing.Limits(),
                1,
            )
            if floor > reading.objective.target:
                found[name] = (
                    f"{name} is {current}, and an engine without load needs {units.format_seconds(floor)}: "
                    f"ask for {units.format_seconds(1.2 * floor)} or more, or for a faster engine or shorter requests"
                )
        elif model is None and load.in_flight < pods.ready and load.waiting < 1:
            found[name] = (
                f"{name} is {current} with {load.in_flight / max(pods.ready, 1):.1f} requests in flight per "
                f"replica: more replicas can't make one request faster than {reading.objective.text}"
            )
    return found


def _emergency(scene: _Scene) -> bool:
    """Any two signs that the service is failing right now."""
    load, pods = scene.load, scene.pods
    waiting = sum([pod.waiting_mean for pod in load.pods])
    signs = (
        load.kv_usage > _KV_ALARM,
        any(pod.preempted > 0 for pod in load.pods),
        load.waiting > pods.ready and load.waiting > waiting,
        any(pod.rejected > 0 for pod in load.pods),
        any(learning.burn(reading) >= _BURN_ALARM for reading in scene.readings),
        load.waiting > load.running,
    )
    return sum(signs) >= 2


def _step(
    scene: _Scene, state: State, current: int, need: int, reason: str
) -> tuple[int, str, State]:
    """From the present count towards the need, no faster than the limits allow."""
    inputs, pods = scene.inputs, scene.pods
    maximum = inputs.bounds.maximum
    if hurt := descent.regretted(inputs, state, scene.readings, current, scene.utilisation):
        state = descent.cautious(state)
        need = max(need, current + 1)
        reason = f"{hurt.objective.name} got worse with {current}, so the last step is taken back"
    if need <= current:
        return descent.step(
            inputs, state, pods, scene.load, scene.readings, current, scene.utilisation
        )
    if pods.broken:
        return current, f"{current} stay, {need} would be needed: {pods.limited}", state
    if (
        "futility" not in inputs.without
        and need > pods.ready + pods.starting
        and spikes.futile(state.spikes, now=inputs.now, horizon=state.cold.p90)
        and not forecast.foreseen(state.outlook, scene.work, horizon=scene.horizon)
    ):
        spike = f"such spikes end within {state.cold.p90:.0f} s"
        return current, f"{current} stay: {reason}, but {spike}", state
    if inputs.now - state.raised_at >= UP_SECONDS:
        state = dataclasses.replace(state, raised_at=inputs.now, raised_from=current)
    base = min(state.raised_from or current, current)
    limit = maximum if _emergency(scene) else max(base + UP_REPLICAS, 2 * base)
    target = max(current, min(need, limit, maximum))
    if target == current:
        held = "maxReplicas is reached" if current == maximum else "one step was just made"
        return current, f"{reason}; {held}", state
    recently = inputs.now - state.lowered_at < descent.window(inputs, state)
    if state.lowered_from > current and recently:
        state = descent.cautious(state)
    return target, f"{reason}: {need} are needed", state


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
