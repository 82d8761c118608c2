"""The state of the kernel: one record a request, one a pod, and the queues between them as linked lists."""

from typing import Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Integers: TypeAlias = NDArray[np.int64]
Records: TypeAlias = np.ndarray[tuple[int], np.dtype[np.void]]

NONE: Final = -1

# Where a request is.
NOWHERE, HELD, WAITING, RUNNING = 0, 1, 2, 3
# What became of a request.
AHEAD, LIVE, FINISHED, TIMED_OUT, LOST, REJECTED = 0, 1, 2, 3, 4, 5
# What a pod does until its next event.
IDLE, WAKING, STEPPING, DECODING = 0, 1, 2, 3

TTFT, TPOT, ITL, E2E, QUEUE, PROMPT, OUTPUT, ITERATION = range(8)
"""The histograms of each pod."""

REQUEST: Final = np.dtype(
    [
        ("arrival", "f8"),
        ("enqueued", "f8"),  # at the engine, in this attempt
        ("admitted", "f8"),
        ("first", "f8"),
        ("finished", "f8"),
        ("latest", "f8"),  # its newest token before a preemption
        (
            "luck",
            "f8",
        ),  # uniform: whether the prefix cache has its prefix, and the pod of random routing
        ("started", "i8"),
        ("ends", "i8"),
        ("prompt", "i4"),
        ("output", "i4"),
        ("shared", "i4"),  # prompt tokens that a warm prefix cache may hold
        ("cached", "i4"),
        ("generated", "i4"),
        ("target", "i4"),
        ("computed", "i4"),
        ("next", "i4"),
        ("previous", "i4"),
        ("pod", "i4"),
        ("hit", "f4"),  # chance that a warm cache holds them
        ("warmup", "f4"),  # seconds in which a cache fills to 63 %
        ("kind", "i2"),  # class of service: an index, the most urgent first
        ("attempt", "i2"),
        ("place", "i1"),
        ("fate", "i1"),
        ("gone", "i1"),  # its client left during a step: 1, and came back already: 2
        ("pinned", "i1"),
    ],
    align=True,
)

POD: Final = np.dtype(
    [
        ("ready_at", "f8"),
        ("speed", "f8"),
        ("began", "f8"),  # start of the present step or run
        ("shortest", "f8"),  # duration of the first iteration of the run
        ("growth", "f8"),
        ("emptied", "f8"),  # when it had nothing to do any more; inf while busy
        ("kv_used", "i8"),
        ("iteration", "i8"),
        ("left", "i8"),  # iterations of the run that are not counted yet
        ("tokens", "i8"),
        ("computed", "i8"),
        ("cached", "i8"),
        ("preemptions", "i8"),
        ("succeeded", "i8"),
        ("running", "i4"),
        ("waiting", "i4"),
        ("decoding", "i4"),
        ("decoded", "i4"),
        ("head", "i4"),
        ("tail", "i4"),
        ("prefill", "i4"),
        ("completed", "i4"),
        ("completions", "i4"),
        ("ends", "i4"),  # entries of the heap of last tokens
        ("doing", "i1"),
        ("routable", "i1"),
    ],
    align=True,
)

ENGINE: Final = np.dtype(
    [
        ("alpha", "f8"),
        ("beta", "f8"),
        ("gamma", "f8"),
        ("delta", "f8"),
        ("kv_tokens", "i8"),
        ("max_sequences", "i8"),
        ("max_batched_tokens", "i8"),
    ]
)

FLEET: Final = np.dtype(
    [
        ("now", "f8"),
        ("backoff", "f8"),
        ("arrived", "i8"),  # requests so far
        ("routed", "i8"),  # breaks ties between equally loaded pods, the longest unused first
        ("attempts", "i8"),
        ("left", "i8"),
        ("retry_head", "i8"),
        ("retry_tail", "i8"),
        ("held", "i8"),
        ("live", "i8"),
        ("events", "i8"),
        ("routable", "i4"),
        ("favourite", "i4"),  # the pod of pinned requests
        (
            "router",
            "i1",
        ),  # 1: holds requests and knows loads; 0: a Service, which picks at random and fails
    ],
    align=True,
)


class State(NamedTuple):
    """All arrays; S pods, N requests, K kinds, A attempts, H histograms."""

    requests: Records
    pods: Records
    engine: Records
    fleet: Records
    alarm: Floats  # 2S: tournament of next events
    load: Integers  # 2S: tournament of least load
    heap_ends: Integers  # S x heap
    heap_request: Integers
    queue_head: Integers  # (S + 1) x K: waiting in the engines; the last row is held by the router
    queue_tail: Integers
    patience: Floats  # K: seconds until a client without a first token leaves
    retries: Integers  # K
    leave_at: Floats  # K x A: in order of time, since patience is constant
    leave_request: Integers
    leave_attempt: Integers
    leave_head: Integers  # K
    leave_tail: Integers
    retry_at: Floats  # A
    retry_request: Integers
    bounds: Floats  # H x B
    counts: Integers  # S x H x B
    sums: Floats  # S x H
