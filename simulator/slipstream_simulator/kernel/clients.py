"""Clients: how long they wait for a first token, and whether they come back after a failure."""

import math

from slipstream_simulator.kernel.compiled import compiled
from slipstream_simulator.kernel.layout import NONE, NOWHERE, State


@compiled
def arm(state: State, request: int, now: float) -> None:
    """A client starts to wait for its first token."""
    one = state.requests[request]
    patience = state.patience[one.kind]
    if math.isinf(patience):
        return
    tail = state.leave_tail[one.kind]
    state.leave_at[one.kind, tail] = now + patience
    state.leave_request[one.kind, tail] = request
    state.leave_attempt[one.kind, tail] = one.attempt
    state.leave_tail[one.kind] += 1


@compiled
def next_leaver(state: State) -> int:
    """The kind of the client that leaves next, or NONE; those served meanwhile are forgotten."""
    kind, soonest = NONE, math.inf
    for candidate in range(state.patience.shape[0]):
        head = state.leave_head[candidate]
        while head < state.leave_tail[candidate]:
            one = state.requests[state.leave_request[candidate, head]]
            waits = one.place != NOWHERE and math.isnan(one.first)
            if waits and one.attempt == state.leave_attempt[candidate, head]:
                break
            head += 1
        state.leave_head[candidate] = head
        if head < state.leave_tail[candidate] and state.leave_at[candidate, head] < soonest:
            kind, soonest = candidate, state.leave_at[candidate, head]
    return kind


@compiled
def fail(state: State, request: int, now: float, fate: int) -> None:
    """An attempt failed: the client tries again after a pause, or gives up."""
    one, fleet = state.requests[request], state.fleet[0]
    one.place, one.pod, one.ends, one.gone = NOWHERE, NONE, NONE, 0
    one.first = math.nan
    one.attempt += 1
    if one.attempt > state.retries[one.kind]:
        one.fate, one.finished = fate, now
        fleet.live -= 1
        return
    state.retry_at[fleet.retry_tail] = now + fleet.backoff
    state.retry_request[fleet.retry_tail] = request
    fleet.retry_tail += 1
