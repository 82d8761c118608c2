"""The event loop: arrivals, retries, impatient clients and the engines' steps, in order of time."""

import math

from slipstream_simulator.kernel.clients import arm, fail, next_leaver
from slipstream_simulator.kernel.compiled import compiled
from slipstream_simulator.kernel.engine import (
    begin,
    catch_up,
    end,
    enqueue,
    interrupt,
    refresh_load,
)
from slipstream_simulator.kernel.layout import (
    HELD,
    IDLE,
    LIVE,
    LOST,
    NONE,
    REJECTED,
    RUNNING,
    TIMED_OUT,
    WAITING,
    Floats,
    Integers,
    State,
)
from slipstream_simulator.kernel.structures import (
    append,
    earliest,
    first_in,
    least,
    remove,
    set_alarm,
)


@compiled
def advance(state: State, until: float) -> None:
    """Play all events up to and including `until`."""
    fleet, requests = state.fleet[0], state.requests
    while True:
        arrival = requests[fleet.arrived].arrival if fleet.arrived < requests.shape[0] else math.inf
        retry = math.inf
        if fleet.retry_head < fleet.retry_tail:
            retry = state.retry_at[fleet.retry_head]
        leaver = next_leaver(state)
        leave_at = math.inf if leaver == NONE else state.leave_at[leaver, state.leave_head[leaver]]
        step = state.alarm[1]
        # NB: arrivals first among equals, so that an engine's step sees all that came until its start.
        now = min(arrival, retry, leave_at, step)
        if now > until or math.isinf(now):
            break
        fleet.now = now
        fleet.events += 1
        if arrival <= now:
            request = fleet.arrived
            fleet.arrived += 1
            fleet.live += 1
            requests[request].fate = LIVE
            _attempt(state, request, now)
        elif retry <= now:
            request = state.retry_request[fleet.retry_head]
            fleet.retry_head += 1
            _attempt(state, request, now)
        elif leave_at <= now:
            request = state.leave_request[leaver, state.leave_head[leaver]]
            state.leave_head[leaver] += 1
            fleet.left += 1
            _give_up(state, request, now)
        else:
            slot = earliest(state.alarm)
            end(state, slot, now)
            begin(state, slot, now)
            refresh_load(state, slot)
    fleet.now = max(fleet.now, until)


@compiled
def _attempt(state: State, request: int, now: float) -> None:
    """A client sends its request."""
    state.fleet[0].attempts += 1
    one = state.requests[request]
    if one.prompt + one.output - 1 > state.engine[0].kv_tokens:
        one.attempt = state.retries[one.kind]
        fail(state, request, now, REJECTED)
        return
    arm(state, request, now)
    if state.fleet[0].routable:
        _route(state, request, now)
    elif state.fleet[0].router:
        append(state, state.pods.shape[0], request)
        one.place = HELD
        state.fleet[0].held += 1
    else:
        fail(state, request, now, REJECTED)


@compiled
def _route(state: State, request: int, now: float) -> None:
    fleet, one = state.fleet[0], state.requests[request]
    fleet.routed += 1
    if one.pinned and fleet.favourite != NONE:
        slot = fleet.favourite
    elif fleet.router:
        slot = least(state.load)
    else:
        slot = _any(state, one.luck)
    pod = state.pods[slot]
    warmth = one.hit
    if one.warmup > 0:
        warmth *= 1 - math.exp(-(now - pod.ready_at) / one.warmup)
    one.cached = one.shared if one.luck < warmth else 0
    enqueue(state, slot, request, now)


@compiled
def _any(state: State, luck: float) -> int:
    """Return a random routable pod; NB: from digits of `luck` that the prefix cache does not use."""
    skip = int(luck * 1e6 % 1 * state.fleet[0].routable)
    for slot in range(state.pods.shape[0]):
        if state.pods[slot].routable:
            if skip == 0:
                return slot
            skip -= 1
    return NONE


@compiled
def _give_up(state: State, request: int, now: float) -> None:
    """A client leaves; a step in progress keeps its sequence to the end."""
    one = state.requests[request]
    if one.place == HELD:
        remove(state, state.pods.shape[0], request)
        state.fleet[0].held -= 1
        fail(state, request, now, TIMED_OUT)
    elif one.place == WAITING:
        slot = one.pod
        first = first_in(state, slot) == request
        remove(state, slot, request)
        state.pods[slot].waiting -= 1
        fail(state, request, now, TIMED_OUT)
        if first:
            interrupt(state, slot, now)  # the next in line may fit
        refresh_load(state, slot)
    elif one.place == RUNNING:
        one.gone = 1


@compiled
def open_pod(state: State, slot: int, now: float) -> None:
    """A pod is ready: the router sends to it, first of all what it held."""
    pod = state.pods[slot]
    pod.ready_at, pod.routable = now, 1
    state.fleet[0].routable += 1
    refresh_load(state, slot)
    held = state.pods.shape[0]
    while state.fleet[0].held:
        request = first_in(state, held)
        remove(state, held, request)
        state.fleet[0].held -= 1
        _route(state, request, now)


@compiled
def close_pod(state: State, slot: int) -> None:
    """A pod gets no more requests."""
    if state.pods[slot].routable:
        state.pods[slot].routable = 0
        state.fleet[0].routable -= 1
        load = state.pods[slot].running + state.pods[slot].waiting
        emptied = state.pods[slot].emptied
        refresh_load(state, slot)
        if load == 0:
            state.pods[slot].emptied = emptied


@compiled
def clear_pod(state: State, slot: int, now: float) -> None:
    """A pod is gone, and with it its requests."""
    close_pod(state, slot)
    pod = state.pods[slot]
    while pod.head != NONE:
        request = pod.head
        one = state.requests[request]
        pod.head = one.next
        fail(state, request, now, TIMED_OUT if one.gone else LOST)
    while pod.waiting:
        request = first_in(state, slot)
        remove(state, slot, request)
        pod.waiting -= 1
        fail(state, request, now, LOST)
    set_alarm(state.alarm, slot, math.inf)
    reset_pod(state, slot)


@compiled
def reset_pod(state: State, slot: int) -> None:
    """An engine that has not seen a request yet."""
    pod = state.pods[slot]
    pod.speed, pod.began, pod.shortest, pod.growth = 1.0, 0.0, 0.0, 0.0
    pod.emptied = state.fleet[0].now
    pod.kv_used = pod.iteration = pod.left = pod.tokens = pod.computed = pod.cached = 0
    pod.preemptions = pod.succeeded = 0
    pod.running = pod.waiting = pod.decoding = pod.decoded = pod.completions = pod.ends = 0
    pod.head = pod.tail = pod.prefill = pod.completed = NONE
    pod.doing, pod.routable = IDLE, 0
    state.counts[slot] = 0
    state.sums[slot] = 0.0
    refresh_load(state, slot)


@compiled
def set_speed(state: State, slot: int, speed: float, now: float) -> None:
    """A pod computes faster or slower from its next iteration on."""
    interrupt(state, slot, now)
    state.pods[slot].speed = speed


@compiled
def read(state: State, slots: Integers, now: float, out: Floats) -> None:
    """The scalars and then the cumulative histograms of pods as they are now, one row a pod."""
    model = state.engine[0]
    for row in range(slots.shape[0]):
        slot = slots[row]
        catch_up(state, slot, now)
        pod = state.pods[slot]
        out[row, 0] = pod.running
        out[row, 1] = pod.waiting
        out[row, 2] = pod.kv_used / model.kv_tokens
        out[row, 3] = pod.tokens
        out[row, 4] = pod.computed
        out[row, 5] = pod.cached
        out[row, 6] = pod.preemptions
        out[row, 7] = pod.succeeded
        column = 8
        for histogram in range(state.sums.shape[1]):
            total = 0
            for bucket in range(state.bounds.shape[1]):
                total += state.counts[slot, histogram, bucket]
                out[row, column] = total
                column += 1
            out[row, column] = state.sums[slot, histogram]
            column += 1
