"""One pod's engine, step by step: the semantics of `slipstream_runtime.simulator.model`, which is the reference.

Pure decode iterations are one run up to its natural end; whatever interrupts it shortens it to the iteration in
progress. So a step costs the events in it, never the size of the batch or the number of pods.
"""

import math

from slipstream_simulator.kernel.clients import fail
from slipstream_simulator.kernel.compiled import compiled
from slipstream_simulator.kernel.layout import (
    DECODING,
    E2E,
    FINISHED,
    IDLE,
    ITERATION,
    ITL,
    NONE,
    NOWHERE,
    OUTPUT,
    PROMPT,
    QUEUE,
    RUNNING,
    STEPPING,
    TIMED_OUT,
    TPOT,
    TTFT,
    WAITING,
    WAKING,
    State,
)
from slipstream_simulator.kernel.structures import (
    append,
    first_in,
    observe,
    observe_series,
    pop_end,
    prepend,
    push_end,
    remove,
    set_alarm,
    set_load,
    valid,
)

_UNROUTABLE = 1 << 62


@compiled
def refresh_load(state: State, slot: int) -> None:
    """Tell the router of a pod's load; an empty pod notes since when."""
    pod = state.pods[slot]
    load = pod.running + pod.waiting
    if pod.routable:
        set_load(state.load, slot, (load << 40) + state.fleet[0].routed)
    else:
        set_load(state.load, slot, _UNROUTABLE)
    pod.emptied = math.inf if load else state.fleet[0].now


@compiled
def enqueue(state: State, slot: int, request: int, now: float) -> None:
    """Hand a request to an engine."""
    pod, one = state.pods[slot], state.requests[request]
    append(state, slot, request)
    pod.waiting += 1
    one.place, one.pod, one.enqueued = WAITING, slot, now
    one.admitted = math.nan
    one.generated = one.computed = 0
    one.ends = NONE
    if pod.doing == IDLE:
        pod.doing = WAKING
        set_alarm(state.alarm, slot, now)
    elif pod.doing == DECODING and first_in(state, slot) == request:
        interrupt(state, slot, now)
    refresh_load(state, slot)


@compiled
def interrupt(state: State, slot: int, now: float) -> None:
    """End a run with the iteration in progress."""
    pod = state.pods[slot]
    if pod.doing == DECODING and pod.left > 1:
        catch_up(state, slot, now)
        pod.left = 1
        set_alarm(state.alarm, slot, pod.began + pod.shortest)


@compiled
def catch_up(state: State, slot: int, now: float) -> None:
    """Count the iterations of a run that ended before `now`; the one in progress is left."""
    pod = state.pods[slot]
    if pod.doing != DECODING or pod.left <= 1:
        return
    horizon = now - pod.began
    if horizon <= pod.shortest:
        return
    # The least n with n*shortest + growth*n*(n-1)/2 >= horizon.
    slope = pod.shortest - pod.growth / 2
    root = math.sqrt(slope * slope + 2 * pod.growth * horizon)
    count = min(pod.left, math.ceil(2 * horizon / (slope + root)))
    _commit(state, slot, count - 1)


@compiled
def _commit(state: State, slot: int, count: int) -> None:
    if count <= 0:
        return
    pod = state.pods[slot]
    observe_series(state, slot, ITL, pod.shortest, pod.growth, count, pod.decoded)
    observe(state, slot, ITERATION, float(pod.decoded), count)
    pod.began += count * pod.shortest + pod.growth * count * (count - 1) / 2
    pod.shortest += pod.growth * count
    pod.kv_used += pod.decoded * count
    pod.iteration += count
    pod.tokens += pod.decoded * count
    pod.left -= count


@compiled
def leave(state: State, slot: int, request: int) -> None:
    """Take a sequence out of the batch, with its progress written down and its KV freed."""
    pod, one = state.pods[slot], state.requests[request]
    progress = one.generated
    if one.ends != NONE:
        progress += pod.iteration - one.started
        pod.decoding -= 1
    elif request == pod.prefill:
        pod.prefill = NONE
    pod.kv_used -= one.computed + progress - one.generated
    one.generated = progress
    one.ends = NONE
    one.computed = 0
    one.place = NOWHERE
    if one.previous == NONE:
        pod.head = one.next
    else:
        state.requests[one.previous].next = one.next
    if one.next == NONE:
        pod.tail = one.previous
    else:
        state.requests[one.next].previous = one.previous
    pod.running -= 1


@compiled
def _preempt(state: State, slot: int, request: int, now: float) -> None:
    pod, one = state.pods[slot], state.requests[request]
    if one.ends != NONE:
        one.latest = now
    leave(state, slot, request)
    prepend(state, slot, request)
    one.place = WAITING
    pod.waiting += 1
    pod.preemptions += 1


@compiled
def begin(state: State, slot: int, now: float) -> None:
    """Start the next step, or rest."""
    pod, model = state.pods[slot], state.engine[0]
    if pod.prefill != NONE and state.requests[pod.prefill].gone:
        request = pod.prefill
        leave(state, slot, request)
        fail(state, request, now, TIMED_OUT)
    if pod.running + pod.waiting == 0:
        pod.doing = IDLE
        set_alarm(state.alarm, slot, math.inf)
        return
    preemptions = pod.preemptions
    while pod.kv_used + pod.decoding > model.kv_tokens:
        _preempt(state, slot, pod.tail, now)
    decoded = pod.decoding
    kv_used = pod.kv_used
    pod.kv_used += decoded
    pod.completed, pod.completions = NONE, 0
    prefilled = 0
    if pod.prefill != NONE:
        one = state.requests[pod.prefill]
        chunk = min(one.target - one.computed, model.max_batched_tokens - decoded)
        if pod.kv_used + chunk > model.kv_tokens:
            _preempt(state, slot, pod.prefill, now)
        else:
            prefilled = chunk
            _compute(state, slot, pod.prefill, chunk)
    if pod.preemptions == preemptions:
        prefilled = _admit(state, slot, prefilled, decoded, now)
    shortest = (
        model.alpha + model.beta * pod.running + model.gamma * pod.kv_used + model.delta * prefilled
    ) / pod.speed
    pod.began, pod.shortest, pod.decoded, pod.growth = now, shortest, decoded, 0.0
    if prefilled or pod.preemptions != preemptions:
        pod.doing, pod.left = STEPPING, 1
        set_alarm(state.alarm, slot, now + shortest)
        return
    while not valid(state, slot, state.heap_ends[slot, 0], state.heap_request[slot, 0]):
        pop_end(state, slot)
    room = model.kv_tokens - pod.kv_used
    count = min(state.heap_ends[slot, 0] - pod.iteration, 1 + room // decoded)
    pod.doing, pod.left = DECODING, count
    pod.growth = model.gamma * decoded / pod.speed
    pod.kv_used = kv_used
    set_alarm(state.alarm, slot, now + count * shortest + pod.growth * count * (count - 1) / 2)


@compiled
def _admit(state: State, slot: int, prefilled: int, decoded: int, now: float) -> int:
    """Start the prefills of waiting sequences, in order, each only if its whole prompt fits."""
    pod, model = state.pods[slot], state.engine[0]
    while pod.waiting and pod.running < model.max_sequences:
        budget = model.max_batched_tokens - decoded - prefilled
        request = first_in(state, slot)
        one = state.requests[request]
        target = one.prompt + one.generated
        if budget <= 0 or pod.kv_used + target > model.kv_tokens:
            break
        remove(state, slot, request)
        pod.waiting -= 1
        one.place = RUNNING
        if math.isnan(one.admitted):
            one.admitted = now
        one.previous, one.next = pod.tail, NONE
        if pod.tail == NONE:
            pod.head = request
        else:
            state.requests[pod.tail].next = request
        pod.tail = request
        pod.running += 1
        one.target, one.computed = target, one.cached
        pod.kv_used += one.cached
        chunk = min(target - one.computed, budget)
        _compute(state, slot, request, chunk)
        prefilled += chunk
    return prefilled


@compiled
def _compute(state: State, slot: int, request: int, chunk: int) -> None:
    """Prefill `chunk` tokens; completed prefills are neighbors in the batch, the newest last."""
    pod, one = state.pods[slot], state.requests[request]
    one.computed += chunk
    pod.kv_used += chunk
    if one.computed < one.target:
        pod.prefill = request
        return
    pod.prefill = NONE
    if pod.completions == 0:
        pod.completed = request
    pod.completions += 1


@compiled
def end(state: State, slot: int, now: float) -> None:
    """Apply the end of a step: tokens, and sequences that are done."""
    pod = state.pods[slot]
    if pod.doing == DECODING:
        _commit(state, slot, pod.left)
    elif pod.doing == STEPPING:
        pod.iteration += 1
        tokens = pod.decoded
        if tokens:
            observe(state, slot, ITL, pod.shortest, tokens)
        pod.tokens += tokens
    while pod.ends and state.heap_ends[slot, 0] <= pod.iteration:
        ends, request = state.heap_ends[slot, 0], state.heap_request[slot, 0]
        pop_end(state, slot)
        if valid(state, slot, ends, request):
            leave(state, slot, request)
            _finish(state, slot, request, now)
    if pod.doing == STEPPING:
        _start_decodes(state, slot, now)


@compiled
def _start_decodes(state: State, slot: int, now: float) -> None:
    """Give each completed prefill its token; those that want no more are done."""
    pod = state.pods[slot]
    request = pod.completed
    tokens, computed = pod.decoded, 0
    for _ in range(pod.completions):
        one = state.requests[request]
        following = one.next
        if one.gone:
            leave(state, slot, request)
            fail(state, request, now, TIMED_OUT)
            request = following
            continue
        tokens += 1
        pod.tokens += 1
        if one.generated == 0:
            one.first = now
            observe(state, slot, TTFT, now - one.enqueued, 1)
            pod.computed += one.prompt - one.cached
            pod.cached += one.cached
            computed += one.prompt - one.cached
        else:
            observe(state, slot, ITL, now - one.latest, 1)
        one.generated += 1
        missing = one.output - one.generated
        if missing:
            one.started = pod.iteration
            one.ends = pod.iteration + missing
            push_end(state, slot, one.ends, request)
            pod.decoding += 1
        else:
            leave(state, slot, request)
            _finish(state, slot, request, now)
        request = following
    if tokens:
        observe(state, slot, ITERATION, float(tokens + computed), 1)


@compiled
def _finish(state: State, slot: int, request: int, now: float) -> None:
    pod, one = state.pods[slot], state.requests[request]
    one.finished = now
    one.fate = FINISHED
    one.pod = NONE
    state.fleet[0].live -= 1
    pod.succeeded += 1
    observe(state, slot, TPOT, (now - one.first) / max(1, one.output - 1), 1)
    observe(state, slot, E2E, now - one.enqueued, 1)
    observe(state, slot, QUEUE, one.admitted - one.enqueued, 1)
    observe(state, slot, PROMPT, float(one.prompt), 1)
    observe(state, slot, OUTPUT, float(one.output), 1)
