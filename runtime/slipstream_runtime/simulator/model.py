"""Model of one vLLM engine, iteration by iteration: batching, chunked prefill, KV limit, preemption.

Pure: no I/O, and the time is an argument. It shares no formula with the scaling policy, so that the policy can be
tested against a model that it does not contain.
"""

import math
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Final

_NOT_DECODING: Final = -1


@dataclass(frozen=True, slots=True)
class Parameters:
    """Seconds of a step with b sequences, K KV tokens and p prompt tokens: alpha + beta*b + gamma*K + delta*p.

    The defaults are an 8B model in 16 bits on one accelerator that reaches about 2.5 TB/s and 500 TFLOP/s. alpha reads
    the weights once (16 GB), plus 1 ms of launching. gamma reads the KV of one token (128 KiB). delta computes 2 x 8e9
    operations. beta is the share of sampler and scheduler. `kv_tokens` is the capacity of about 25 GB. `max_sequences`
    and `max_batched_tokens` are vLLM's defaults for accelerators below 70 GB.
    """

    alpha: float = 0.007
    beta: float = 20e-6
    gamma: float = 60e-9
    delta: float = 32e-6
    kv_tokens: int = 200_000
    max_sequences: int = 256
    max_batched_tokens: int = 2048

    def __post_init__(self) -> None:
        if not self.alpha > 0 or min(self.beta, self.gamma, self.delta) < 0:
            raise ValueError("alpha must be positive; beta, gamma and delta must not be negative")
        if min(self.kv_tokens, self.max_sequences) < 1:
            raise ValueError("kv_tokens and max_sequences must be at least 1")
        if self.max_batched_tokens < self.max_sequences:
            raise ValueError("max_batched_tokens must be at least max_sequences")


@dataclass(frozen=True, slots=True)
class Request:
    """Request of a client; the prefix cache holds `cached` tokens of the prompt, never its last one."""

    key: Hashable
    arrival: float
    prompt: int
    output: int
    cached: int = 0

    def __post_init__(self) -> None:
        if self.prompt < 1 or self.output < 1 or not 0 <= self.cached < self.prompt:
            raise ValueError("prompt and output must be at least 1 token, and 0 <= cached < prompt")


@dataclass(frozen=True, slots=True)
class Step:
    """Iteration of the engine, or several equal ones merged.

    Sequences are `preempted` or `admitted` (also after a preemption) at its start; everything else happens at its end.
    `decoded` sequences get one token in each iteration. `first` (first token) and `resumed` (recomputed after a
    preemption) get one token at the end of their prefill.
    """

    duration: float
    iterations: int
    growth: float
    """Seconds by which each merged iteration is longer than the one before it."""
    running: int
    decoded: int
    prefilled: int
    """Prompt tokens that were computed, with recomputed ones."""
    kv_used: int = 0
    """KV tokens at the end of its first iteration, before finished sequences free theirs."""
    admitted: tuple[Request, ...] = ()
    first: tuple[Request, ...] = ()
    resumed: tuple[Request, ...] = ()
    finished: tuple[Request, ...] = ()
    preempted: tuple[Request, ...] = ()

    @property
    def tokens(self) -> int:
        """Output tokens of all its iterations."""
        return self.decoded * self.iterations + len(self.first) + len(self.resumed)

    @property
    def shortest(self) -> float:
        """Duration of its first iteration."""
        return self.duration / self.iterations - self.growth * (self.iterations - 1) / 2


@dataclass(slots=True, eq=False)
class _Sequence:
    request: Request
    order: int
    generated: int = 0
    """Output tokens up to the start of the present decode phase."""
    target: int = 0
    """Tokens that must be in the KV cache before the prefill yields a token."""
    computed: int = 0
    started: int = 0
    """Iteration count at the start of the present decode phase."""
    ends: int = _NOT_DECODING
    """Iteration count at which it gets its last token."""


@dataclass(slots=True)
class Engine:
    """State of one engine between two iterations.

    NB: an iteration costs O(events), not O(batch). Every decoding sequence gets exactly one token in each iteration, so
    a counter and a heap of last tokens describe them all. At most one prefill is unfinished, the newest of the batch,
    because prefills are computed in order until the iteration's token budget is used up.
    """

    parameters: Parameters
    kv_used: int = 0
    preemptions: int = 0
    _iteration: int = 0
    _added: int = 0
    _decoding: int = 0
    _waiting: deque[_Sequence] = field(default_factory=deque)
    _running: dict[Hashable, _Sequence] = field(default_factory=dict)
    _prefill: _Sequence | None = None
    _ends: list[tuple[int, int, _Sequence]] = field(default_factory=list)
    _known: dict[Hashable, _Sequence] = field(default_factory=dict)

    @property
    def idle(self) -> bool:
        """Whether the engine has no requests, so that no step can be taken."""
        return not self._known

    @property
    def running(self) -> int:
        """Number of sequences in the batch."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Number of sequences that are not in the batch, with preempted ones."""
        return len(self._waiting)

    @property
    def kv_usage(self) -> float:
        """Used share of the KV cache, 0 to 1."""
        return self.kv_used / self.parameters.kv_tokens

    def add(self, request: Request) -> None:
        """Add the request to the end of the queue; ValueError if it can never fit or its key is in use."""
        if request.key in self._known:
            raise ValueError(f"request {request.key!r} is already here")
        if request.prompt + request.output - 1 > self.parameters.kv_tokens:
            raise ValueError("the request needs more KV tokens than the engine has")
        sequence = _Sequence(request, order=self._added)
        self._added += 1
        self._known[request.key] = sequence
        self._waiting.append(sequence)

    def cancel(self, key: Hashable) -> bool:
        """Remove a request and free its KV tokens; return False if the engine doesn't have it."""
        sequence = self._known.pop(key, None)
        if sequence is None:
            return False
        if key in self._running:
            self._leave(sequence)
        else:
            self._waiting.remove(sequence)
        return True

    def generated(self, key: Hashable) -> int:
        """Return the number of output tokens of the request; KeyError once it has finished."""
        return self._progress(self._known[key])

    def step(self, now: float, *, until: float | None = None) -> Step:
        """Take the next iteration, which starts `now`, and advance the state to its end.

        With `until`, decode iterations that differ only in their length are merged into one Step. The last one merged
        ends at or after `until`, finishes a sequence, or leaves no KV tokens for another iteration. An event loop
        passes its next arrival as `until`.
        """
        if self.idle:
            raise ValueError("an idle engine takes no step")
        preempted = self._make_room()
        decoded = self._decoding
        self.kv_used += decoded
        prefilled, completed = self._continue_prefill(preempted)
        admitted: list[_Sequence] = []
        if not preempted:
            admitted, prefilled = self._admit(prefilled, completed)
        for sequence in preempted:
            self._waiting.appendleft(sequence)

        model = self.parameters
        running, kv_used = len(self._running), self.kv_used
        shortest = (
            model.alpha + model.beta * running + model.gamma * kv_used + model.delta * prefilled
        )
        growth, iterations = 0.0, 1
        if until is not None and not prefilled and not preempted:
            growth = model.gamma * decoded
            iterations = self._mergeable(shortest, growth, until - now)
            self.kv_used += decoded * (iterations - 1)
        self._iteration += iterations
        first = tuple(s.request for s in completed if not s.generated)
        resumed = tuple(s.request for s in completed if s.generated)
        return Step(
            duration=iterations * shortest + growth * iterations * (iterations - 1) / 2,
            iterations=iterations,
            growth=growth,
            running=running,
            decoded=decoded,
            prefilled=prefilled,
            kv_used=kv_used,
            admitted=tuple(s.request for s in admitted),
            first=first,
            resumed=resumed,
            finished=(*self._finish_decodes(), *self._start_decodes(completed)),
            preempted=tuple(s.request for s in preempted),
        )

    def _make_room(self) -> list[_Sequence]:
        """Preempt the newest sequences until every decoding one has room for its next token."""
        preempted: list[_Sequence] = []
        while self.kv_used + self._decoding > self.parameters.kv_tokens:
            newest = self._running[next(reversed(self._running))]
            self._preempt(newest)
            preempted.append(newest)
        return preempted

    def _continue_prefill(self, preempted: list[_Sequence]) -> tuple[int, list[_Sequence]]:
        """Compute the next chunk of the unfinished prefill, which is itself preempted if it does not fit."""
        sequence = self._prefill
        if sequence is None:
            return 0, []
        budget = self.parameters.max_batched_tokens - self._decoding
        chunk = min(sequence.target - sequence.computed, budget)
        if self.kv_used + chunk > self.parameters.kv_tokens:
            self._preempt(sequence)
            preempted.append(sequence)
            return 0, []
        return chunk, [sequence] if self._compute(sequence, chunk) else []

    def _admit(self, prefilled: int, completed: list[_Sequence]) -> tuple[list[_Sequence], int]:
        """Start the prefills of waiting sequences, in order, each only if its whole prompt fits."""
        model = self.parameters
        admitted: list[_Sequence] = []
        while self._waiting and len(self._running) < model.max_sequences:
            budget = model.max_batched_tokens - self._decoding - prefilled
            sequence = self._waiting[0]
            target = sequence.request.prompt + sequence.generated
            if budget <= 0 or self.kv_used + target > model.kv_tokens:
                break
            self._waiting.popleft()
            self._running[sequence.request.key] = sequence
            sequence.target = target
            sequence.computed = sequence.request.cached
            self.kv_used += sequence.computed
            chunk = min(target - sequence.computed, budget)
            if self._compute(sequence, chunk):
                completed.append(sequence)
            admitted.append(sequence)
            prefilled += chunk
        return admitted, prefilled

    def _compute(self, sequence: _Sequence, chunk: int) -> bool:
        sequence.computed += chunk
        self.kv_used += chunk
        done = sequence.computed == sequence.target
        self._prefill = None if done else sequence
        return done

    def _mergeable(self, shortest: float, growth: float, horizon: float) -> int:
        """Return the number of iterations like the present one that come before anything else happens."""
        while self._ends[0][2].ends != self._ends[0][0]:
            heappop(self._ends)  # cancelled or preempted since
        room = self.parameters.kv_tokens - self.kv_used
        most = min(self._ends[0][0] - self._iteration, 1 + room // self._decoding)
        if most <= 1 or horizon <= shortest:
            return 1
        if math.isinf(horizon):
            return most
        # The smallest n with n*shortest + growth*n*(n-1)/2 >= horizon.
        slope = shortest - growth / 2
        return min(
            most, math.ceil(2 * horizon / (slope + math.sqrt(slope**2 + 2 * growth * horizon)))
        )

    def _finish_decodes(self) -> list[Request]:
        finished: list[Request] = []
        while self._ends and self._ends[0][0] <= self._iteration:
            ends, _, sequence = heappop(self._ends)
            if sequence.ends == ends:
                self._leave(sequence)
                del self._known[sequence.request.key]
                finished.append(sequence.request)
        return finished

    def _start_decodes(self, completed: list[_Sequence]) -> list[Request]:
        """Give each sequence the token at the end of its prefill; return the requests that need no more tokens."""
        finished: list[Request] = []
        for sequence in completed:
            sequence.generated += 1
            missing = sequence.request.output - sequence.generated
            if missing:
                sequence.started = self._iteration
                sequence.ends = self._iteration + missing
                heappush(self._ends, (sequence.ends, sequence.order, sequence))
                self._decoding += 1
            else:
                self._leave(sequence)
                del self._known[sequence.request.key]
                finished.append(sequence.request)
        return finished

    def _progress(self, sequence: _Sequence) -> int:
        if sequence.ends == _NOT_DECODING:
            return sequence.generated
        return sequence.generated + self._iteration - sequence.started

    def _leave(self, sequence: _Sequence) -> None:
        """Remove a sequence from the batch, keep its progress, and free its KV tokens."""
        progress = self._progress(sequence)
        self.kv_used -= sequence.computed + progress - sequence.generated
        if sequence.ends != _NOT_DECODING:
            self._decoding -= 1
        elif sequence is self._prefill:
            self._prefill = None
        sequence.generated = progress
        sequence.ends = _NOT_DECODING
        sequence.computed = 0
        del self._running[sequence.request.key]

    def _preempt(self, sequence: _Sequence) -> None:
        self._leave(sequence)
        self.preemptions += 1
