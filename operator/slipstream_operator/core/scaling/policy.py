"""How many replicas: `decide` maps inputs and state to a decision and the next state, and nothing else.

Load is requests in flight. What one replica carries inside its objectives is learned from how far the measured
latencies are from their targets. Starting pods count as supply, missing data only ever hold, and a lower need
must have lasted a whole window before it is followed.
"""

import dataclasses
import math
from typing import Final

from slipstream_operator.api import units
from slipstream_operator.core.resolve import Bounds
from slipstream_operator.core.scaling.signals import Load, Reading, Unknown

MIN_REQUESTS: Final = 5
"""Requests in the rate window below which a percentile says nothing."""
HEADROOM_UP: Final = 0.9
HEADROOM_DOWN: Final = 0.7
"""A replica is planned to this share of what it carries; the gap between the two keeps the count from flapping."""
KV_TARGET: Final = 0.9
"""Above this share of a full KV cache vLLM begins to preempt."""
BUSY_PRESSURE: Final = 0.5
"""Below it a replica has much to spare, so the tokens that it makes say nothing about what it could make."""
LEARNING_RATE: Final = 0.3
MAX_GROWTH: Final = 2.0
"""One decision at most doubles the count, or adds 4."""
DOWN_STEP_SECONDS: Final = 60.0
DOWN_SHARE: Final = 0.2
DOWN_PRESSURE: Final = 0.9
"""With one replica less, the predicted pressure must stay below this."""


@dataclasses.dataclass(frozen=True)
class State:
    """What decisions remember; kept in the service's state ConfigMap."""

    desired: int
    since: float
    """When `desired` was decided, in seconds since the epoch."""
    reason: str
    capacity: float | None = None
    """Requests in flight that one replica carries inside its objectives, as learned."""
    tokens_capacity: float | None = None
    """Output tokens per second that one replica was seen to make inside its objectives."""
    needs: tuple[tuple[float, int], ...] = ()
    """Recent needs with their times: a scale-down follows the highest of them."""


@dataclasses.dataclass(frozen=True)
class Inputs:
    """All that one decision depends on, besides the state."""

    now: float
    bounds: Bounds
    ready: int
    starting: int
    rolling: bool
    load: Load | Unknown
    readings: tuple[Reading, ...] | Unknown
    throughput: int | None
    down_window: float


@dataclasses.dataclass(frozen=True)
class Decision:
    """What shall run, and why in one sentence."""

    desired: int
    reason: str
    known: bool
    """False if data were missing, so that the count could only be held."""
    infeasible: str | None = None
    """Why no number of replicas would meet the objectives, if that is so."""


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
    if not bounds.follows_load:
        return _settle(state, inputs, bounds.minimum, "spec.replicas says so")
    if bounds.paused:
        return _settle(state, inputs, current, "spec.scaling.paused holds the count")
    if isinstance(inputs.load, Unknown) or isinstance(inputs.readings, Unknown):
        why = inputs.load if isinstance(inputs.load, Unknown) else inputs.readings
        assert isinstance(why, Unknown)
        return _settle(state, inputs, current, f"holding {current}: {why.reason}", known=False)
    return _follow(inputs, state, inputs.load, inputs.readings, current)


def _follow(
    inputs: Inputs, state: State, load: Load, readings: tuple[Reading, ...], current: int
) -> tuple[Decision, State]:
    per_replica = load.in_flight_mean / inputs.ready
    slowest = _slowest(readings)
    latency = slowest.pressure if slowest else None
    pressure = max(latency or 0.0, load.kv_usage / KV_TARGET)
    infeasible = None
    if slowest and latency and latency > 1 and per_replica < 1:
        infeasible = (
            f"{slowest.objective.name} is {units.format_seconds(slowest.current or 0)} with {per_replica:.1f} "
            f"requests in flight per replica: more replicas can't make one request faster than "
            f"{slowest.objective.text}"
        )
    state = _learned(
        state, load, inputs, per_replica=per_replica, pressure=pressure, latency=latency
    )
    need, reason = _need(
        inputs, state, load, pressure=pressure, slowest=slowest, feasible=not infeasible
    )
    lower = max(
        _size(load.in_flight, state.capacity, HEADROOM_DOWN), _throughput_need(inputs, state)
    )
    needs = (*_recent(state.needs, inputs), (inputs.now, max(need, lower)))
    state = dataclasses.replace(state, needs=needs)
    if need > current:
        growth = max(current + 4, math.ceil(current * MAX_GROWTH))
        target = min(need, growth, inputs.bounds.maximum)
        if target > current:
            return _settle(state, inputs, target, reason, infeasible=infeasible)
        return _settle(
            state, inputs, current, f"{reason}; maxReplicas is reached", infeasible=infeasible
        )
    down, why = _down(inputs, state, load, current, pressure=pressure)
    return _settle(state, inputs, down, why, infeasible=infeasible)


def _slowest(readings: tuple[Reading, ...]) -> Reading | None:
    measured = [
        reading
        for reading in readings
        if reading.pressure is not None and reading.requests >= MIN_REQUESTS
    ]
    return max(measured, key=lambda reading: reading.pressure or 0.0, default=None)


def _learned(
    state: State,
    load: Load,
    inputs: Inputs,
    *,
    per_replica: float,
    pressure: float,
    latency: float | None,
) -> State:
    """Latency grows about as requests in flight do, so `per_replica / pressure` would just meet the targets."""
    if not load.complete or inputs.starting or per_replica < 1 or pressure <= 0:
        return state
    estimate = max(per_replica / pressure, 1.0)
    known = estimate if state.capacity is None else state.capacity
    capacity = known + LEARNING_RATE * (estimate - known)
    if pressure <= 1:
        capacity = max(capacity, per_replica)
    tokens = state.tokens_capacity
    if latency is not None and BUSY_PRESSURE <= latency <= 1:
        tokens = max(tokens or 0.0, load.tokens_per_second / inputs.ready)
    return dataclasses.replace(state, capacity=capacity, tokens_capacity=tokens)


def _need(
    inputs: Inputs,
    state: State,
    load: Load,
    *,
    pressure: float,
    slowest: Reading | None,
    feasible: bool,
) -> tuple[int, str]:
    """The count that the present load needs, and why."""
    options = [(inputs.bounds.minimum, "minReplicas is enough")]
    if state.capacity is not None and feasible:
        options.append(
            (
                _size(load.in_flight, state.capacity, HEADROOM_UP),
                f"{load.in_flight:.0f} requests in flight, and one replica carries {state.capacity:.1f}",
            )
        )
    if (needed := _throughput_need(inputs, state)) > 0:
        options.append(
            (
                needed,
                f"{inputs.throughput} tokens/s are asked for, and one replica makes {state.tokens_capacity:.0f}",
            )
        )
    if not inputs.starting and feasible:
        if pressure > 1:
            what = _pressed_by(slowest, load)
            options.append((math.ceil(inputs.ready * min(pressure, MAX_GROWTH)), what))
        if load.waiting >= inputs.ready:
            options.append((inputs.ready + 1, f"{load.waiting:.0f} requests wait in the engines"))
    return max(options, key=lambda option: option[0])


def _pressed_by(slowest: Reading | None, load: Load) -> str:
    if slowest and (slowest.pressure or 0) >= load.kv_usage / KV_TARGET:
        return (
            f"{slowest.objective.name} is {units.format_seconds(slowest.current or 0)}, "
            f"over its target of {slowest.objective.text}"
        )
    return f"the KV cache is {load.kv_usage:.0%} full"


def _down(
    inputs: Inputs, state: State, load: Load, current: int, *, pressure: float
) -> tuple[int, str]:
    """One careful step down, or the present count with what speaks against a step; never to 0."""
    highest = max(1, *(need for _, need in state.needs))
    if highest >= current:
        return current, _holding(inputs, load, current)
    seen = inputs.now - state.needs[0][0]
    pause = min(DOWN_STEP_SECONDS, inputs.down_window)
    against = None
    if seen < inputs.down_window * 0.95:
        against = f"a lower need must last {inputs.down_window:.0f} s"
    elif not load.complete:
        against = "not every engine reports"
    elif inputs.starting or inputs.rolling:
        against = "engines are starting"
    elif load.waiting > 0:
        against = "requests wait"
    elif pressure * current / (current - 1) >= DOWN_PRESSURE:
        against = "latency would come near its target"
    elif inputs.now - state.since < pause:
        against = f"steps down are {pause:.0f} s apart"
    if against:
        return current, f"{current} stay: {highest} would do, but {against}"
    step = max(1, math.floor(current * DOWN_SHARE))
    target = max(highest, current - step, inputs.bounds.minimum)
    return (
        target,
        f"{highest} were enough for {inputs.down_window:.0f} s ({load.in_flight:.0f} requests in flight)",
    )


def _holding(inputs: Inputs, load: Load, current: int) -> str:
    waiting = f", {inputs.starting} starting" if inputs.starting else ""
    return f"{current} carry {load.in_flight:.0f} requests in flight{waiting}"


def _size(in_flight: float, capacity: float | None, headroom: float) -> int:
    return 0 if capacity is None else math.ceil(in_flight / (capacity * headroom))


def _throughput_need(inputs: Inputs, state: State) -> int:
    if inputs.throughput is None or not state.tokens_capacity:
        return 0
    return math.ceil(inputs.throughput / state.tokens_capacity)


def _recent(needs: tuple[tuple[float, int], ...], inputs: Inputs) -> tuple[tuple[float, int], ...]:
    """The needs inside the window, and the last one before it, which shows that the window is covered."""
    start = inputs.now - inputs.down_window
    inside = tuple(entry for entry in needs if entry[0] >= start)
    before = tuple(entry for entry in needs if entry[0] < start)
    covering = ((start, 0),) if before else ()
    return covering + inside


def _settle(
    state: State,
    inputs: Inputs,
    desired: int,
    reason: str,
    *,
    known: bool = True,
    infeasible: str | None = None,
) -> tuple[Decision, State]:
    if desired != state.desired:
        state = dataclasses.replace(state, desired=desired, since=inputs.now, reason=reason)
    if not known:
        state = dataclasses.replace(state, needs=())
    return Decision(desired, reason, known, infeasible), state
