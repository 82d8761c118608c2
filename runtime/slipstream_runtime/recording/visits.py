"""Request in an engine's process, between its arrival and its end."""

import contextvars
import math
from typing import Final, NamedTuple, Protocol

from slipstream_runtime.recording.times import CAUSES, UNKNOWN, Times

Parts = tuple[float, ...]


class Sequenced(Protocol):
    """Sequence of an engine, as the record of its request needs it."""

    def close(self) -> Times:
        """Return its times; the request has ended."""
        ...


class Closed(NamedTuple):
    """Values of the record of a request that has ended."""

    took: float
    parts: Parts
    """Seconds until the end, in the order of `CAUSES`."""
    first: Parts
    """Seconds until the first token; zeros without one."""
    prompt: int
    output: int
    numbers: tuple[float, ...]
    """Numbers of the form `FORM`."""


class Visit:
    """Request between its arrival at an engine's process and its end. All times are in seconds of one clock."""

    __slots__ = ("arrived", "first", "id", "known_prefix", "queue", "sequences")

    def __init__(self, request_id: str, *, arrived: float, known_prefix: float | None) -> None:
        self.id = request_id
        self.arrived = arrived
        self.known_prefix = known_prefix
        """Share of the prompt that a replica of the service has read before; None without a router that knows."""
        self.queue = 0.0
        """Seconds of waiting for a slot in front of the engine."""
        self.first: float | None = None
        """Time of the first token."""
        self.sequences: list[Sequenced] = []

    def close(self, now: float) -> Closed:
        """Return the record's values; the request ends now."""
        found = [sequence.close() for sequence in self.sequences]
        known = [times for times in found if not math.isnan(times.first)]
        total = max(0.0, now - self.arrived)
        first_total = 0.0 if self.first is None else min(total, self.first - self.arrived)
        if not known:
            waited = min(total, self.queue)
            parts = (waited, 0.0, 0.0, 0.0, 0.0, 0.0, total - waited)
            prompt = found[0].prompt if found else 0
            return Closed(total, parts, (0.0,) * len(CAUSES), prompt, 0, (UNKNOWN,) * 6)
        last = max(known, key=lambda times: times.ended)
        cold_tokens = self._cold(last)
        cold = 0.0
        if last.computed > 0 and cold_tokens > 0:
            cold = min(last.prefill, last.prefill * cold_tokens / last.computed)
        early = (
            self.queue + last.queue,
            last.prefill - cold,
            cold,
            last.others_first,
            0.0,
            last.preempted_first,
        )
        first = (*early, max(0.0, first_total - sum(early)))
        late = (0.0, 0.0, 0.0, last.others_rest, last.decode, last.preempted_rest)
        whole = tuple(one + two for one, two in zip(early, late, strict=True))
        return Closed(
            total,
            (*whole, max(0.0, total - sum(whole))),
            first,
            last.prompt,
            sum(times.output for times in known),
            (
                last.cached,
                cold_tokens,
                float(sum(times.preemptions for times in known)),
                last.batch,
                sum(times.drafted for times in known),
                sum(times.accepted for times in known),
            ),
        )

    def _cold(self, times: Times) -> float:
        if self.known_prefix is None:
            return UNKNOWN
        cold = round(self.known_prefix * times.prompt) - times.cached
        return float(min(times.computed, max(0.0, cold)))


CURRENT: Final[contextvars.ContextVar[Visit | None]] = contextvars.ContextVar("visit", default=None)
"""Request that the present task serves."""
