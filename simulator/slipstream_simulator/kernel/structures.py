"""Tournament, heap, linked lists and histograms in the arrays of the kernel."""

import math

from slipstream_simulator.kernel.compiled import compiled
from slipstream_simulator.kernel.layout import (
    NONE,
    Floats,
    Integers,
    State,
)


@compiled
def set_alarm(tree: Floats, slot: int, value: float) -> None:
    """Put a leaf; every inner node is the least of its two children."""
    node = slot + tree.shape[0] // 2
    tree[node] = value
    node >>= 1
    while node:
        tree[node] = min(tree[2 * node], tree[2 * node + 1])
        node >>= 1


@compiled
def set_load(tree: Integers, slot: int, value: int) -> None:
    """As `set_alarm`, for whole numbers."""
    node = slot + tree.shape[0] // 2
    tree[node] = value
    node >>= 1
    while node:
        tree[node] = min(tree[2 * node], tree[2 * node + 1])
        node >>= 1


@compiled
def earliest(tree: Floats) -> int:
    """The slot of the least alarm."""
    half = tree.shape[0] // 2
    node = 1
    while node < half:
        node *= 2
        if tree[node] != tree[node >> 1]:
            node += 1
    return int(node - half)


@compiled
def least(tree: Integers) -> int:
    """The slot of the least load."""
    half = tree.shape[0] // 2
    node = 1
    while node < half:
        node *= 2
        if tree[node] != tree[node >> 1]:
            node += 1
    return int(node - half)


@compiled
def valid(state: State, slot: int, ends: int, request: int) -> bool:
    """Whether an entry of the heap of last tokens still holds."""
    one = state.requests[request]
    return bool(one.pod == slot and one.ends == ends)


@compiled
def push_end(state: State, slot: int, ends: int, request: int) -> None:
    """Note that a request gets its last token in that iteration."""
    keys, values = state.heap_ends[slot], state.heap_request[slot]
    pod = state.pods[slot]
    if pod.ends == keys.shape[0]:
        _compact(state, slot)
    child = pod.ends
    pod.ends += 1
    while child:
        parent = (child - 1) >> 1
        if keys[parent] <= ends:
            break
        keys[child], values[child] = keys[parent], values[parent]
        child = parent
    keys[child], values[child] = ends, request


@compiled
def pop_end(state: State, slot: int) -> None:
    """Remove the earliest entry."""
    keys, values = state.heap_ends[slot], state.heap_request[slot]
    pod = state.pods[slot]
    pod.ends -= 1
    size = pod.ends
    _sink(keys, values, 0, size, keys[size], values[size])


@compiled
def _sink(keys: Integers, values: Integers, hole: int, size: int, key: int, value: int) -> None:
    while True:
        child = 2 * hole + 1
        if child >= size:
            break
        if child + 1 < size and keys[child + 1] < keys[child]:
            child += 1
        if keys[child] >= key:
            break
        keys[hole], values[hole] = keys[child], values[child]
        hole = child
    keys[hole], values[hole] = key, value


@compiled
def _compact(state: State, slot: int) -> None:
    """Drop what is no longer valid; live entries are at most half of the heap's room."""
    keys, values = state.heap_ends[slot], state.heap_request[slot]
    pod = state.pods[slot]
    size = 0
    for index in range(pod.ends):
        if valid(state, slot, keys[index], values[index]):
            keys[size], values[size] = keys[index], values[index]
            size += 1
    # NB: a request may be in it twice with the same end, which is as good as once.
    pod.ends = size
    for hole in range(size // 2 - 1, -1, -1):
        _sink(keys, values, hole, size, keys[hole], values[hole])


@compiled
def append(state: State, queue: int, request: int) -> None:
    """Put a request last in a queue of its kind."""
    one = state.requests[request]
    last = state.queue_tail[queue, one.kind]
    one.previous, one.next = last, NONE
    if last == NONE:
        state.queue_head[queue, one.kind] = request
    else:
        state.requests[last].next = request
    state.queue_tail[queue, one.kind] = request


@compiled
def prepend(state: State, queue: int, request: int) -> None:
    """Put a request first in a queue of its kind."""
    one = state.requests[request]
    head = state.queue_head[queue, one.kind]
    one.previous, one.next = NONE, head
    if head == NONE:
        state.queue_tail[queue, one.kind] = request
    else:
        state.requests[head].previous = request
    state.queue_head[queue, one.kind] = request


@compiled
def remove(state: State, queue: int, request: int) -> None:
    """Take a request out of a queue."""
    one = state.requests[request]
    if one.previous == NONE:
        state.queue_head[queue, one.kind] = one.next
    else:
        state.requests[one.previous].next = one.next
    if one.next == NONE:
        state.queue_tail[queue, one.kind] = one.previous
    else:
        state.requests[one.next].previous = one.previous


@compiled
def first_in(state: State, queue: int) -> int:
    """The most urgent, oldest request of a queue."""
    for kind in range(state.queue_head.shape[1]):
        if state.queue_head[queue, kind] != NONE:
            return int(state.queue_head[queue, kind])
    return NONE


@compiled
def observe(state: State, slot: int, histogram: int, value: float, times: int) -> None:
    """Count a value in a histogram of a pod."""
    low, high = 0, state.bounds.shape[1] - 1
    while low < high:
        middle = (low + high) >> 1
        if value <= state.bounds[histogram, middle]:
            high = middle
        else:
            low = middle + 1
    state.counts[slot, histogram, low] += times
    state.sums[slot, histogram] += value * times


@compiled
def observe_series(
    state: State, slot: int, histogram: int, start: float, growth: float, terms: int, times: int
) -> None:
    """Count start, start + growth, ... each `times` times; growth is not negative."""
    if growth <= 0.0 or terms == 1:
        observe(state, slot, histogram, start, terms * times)
        return
    done = 0
    for bucket in range(state.bounds.shape[1]):
        bound = state.bounds[histogram, bucket]
        if bound < start + growth * done:
            continue
        upto = terms
        if not math.isinf(bound):
            upto = min(terms, math.floor((bound - start) / growth) + 1)
        if upto > done:
            state.counts[slot, histogram, bucket] += (upto - done) * times
            done = upto
        if done == terms:
            break
    state.sums[slot, histogram] += times * (terms * start + growth * terms * (terms - 1) / 2)
