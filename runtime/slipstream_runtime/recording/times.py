"""Times of one sequence in an engine that works in steps, by cause. Pure."""

import enum
import math
from collections.abc import Sequence
from typing import Final

from slipstream_runtime.recording.recorder import Form
from slipstream_runtime.recording.steps import Steps, Totals


class Cause(enum.StrEnum):
    """Cause of a part of a request's time in an engine. The parts add up to the time from its arrival to its end."""

    QUEUE = "queue"
    """Waiting for a slot in front of the engine, or for the engine's scheduler."""
    PREFILL = "prefill"
    """Reading its own prompt, without the part that is `cold_prefix`."""
    COLD_PREFIX = "cold_prefix"
    """Reading the part of its own prompt that a replica of the service had read before, and this one's cache lacks."""
    OTHERS_PREFILL = "others_prefill"
    """Waiting while the engine reads prompts of other requests: before the first token, and in steps made longer."""
    DECODE = "decode"
    """Steps from the first token to the last, without what others' prompts and preemption added."""
    PREEMPTION = "preemption"
    """From the loss of its KV cache to its next token, or to its next start before it has a token."""
    ENGINE = "engine"
    """Everything else: reading and checking the request, templates, tokens, and sending the answer. All time of a
    request that ended without a token."""


CAUSES: Final = tuple(Cause)
FORM: Final = Form(
    {"seconds": CAUSES, "firstSeconds": CAUSES},
    ("cachedTokens", "coldTokens", "preemptions", "batch", "draftTokens", "acceptedTokens"),
)
"""`seconds` until the end; `firstSeconds` until the first token, and zeros without one. `batch` is the mean number of
sequences in the engine's steps while the request ran."""
UNKNOWN: Final = math.nan


class Times:
    """Seconds of one sequence by cause, in an engine that works in steps."""

    __slots__ = (
        "_stepped", "accepted", "batch", "cached", "computed", "decode", "drafted", "ended", "first", "others_first",
        "others_rest", "output", "preempted_first", "preempted_rest", "preemptions", "prefill", "prompt",
        "queue", "scheduled", "slowed_lost",
    )  # fmt: skip

    def __init__(self, prompt: int) -> None:
        self.prompt = prompt
        self.queue = self.prefill = self.others_first = self.preempted_first = 0.0
        self.decode = self.others_rest = self.preempted_rest = 0.0
        self.slowed_lost = 0.0
        """Seconds of preemption in which others' prompts made steps longer."""
        self.preemptions = 0
        self.computed = self.cached = UNKNOWN
        self.batch = UNKNOWN
        self._stepped = Totals()
        """Steps up to the first token."""
        self.drafted = self.accepted = UNKNOWN
        self.output = 0
        self.scheduled = self.first = self.ended = UNKNOWN

    def begin(
        self,
        steps: Steps,
        *,
        queued: float,
        scheduled: float,
        first: float,
        computed: int,
        cached: int,
        lost: Sequence[tuple[float, float]] = (),
    ) -> None:
        """Take the times up to the first token, at a time when its step is the newest one.

        `lost` are the times between a preemption and the next start.
        """
        at_start, now = steps.until(scheduled), steps.until(first)
        waited = max(0.0, scheduled - queued)
        behind = min(waited, at_start.since(steps.until(queued)).occupied)
        self.preempted_first = sum(end - start for start, end in lost)
        self.preemptions += len(lost)
        took = max(0.0, first - scheduled - self.preempted_first)
        during = now.since(at_start)
        own = min(1.0, computed / during.prompts) if during.prompts > 0 else 1.0
        shared = min(took, during.prefilling) * (1.0 - own)
        self.queue = waited - behind
        self.others_first = behind + shared
        self.prefill = took - shared
        self.computed, self.cached = computed, cached
        self.scheduled, self.first = scheduled, first
        self._stepped = during

    def lose(self, steps: Steps, *, start: float, end: float) -> None:
        """Take a preemption after the first token, until the next token."""
        self.preempted_rest += max(0.0, end - start)
        self.slowed_lost += steps.until(end).since(steps.until(start)).slowed
        self.preemptions += 1

    def end(self, steps: Steps, *, last: float, output: int) -> None:
        """Take the times from the first token to the last."""
        if math.isnan(self.first):
            return
        last = max(last, self.first)
        during = steps.until(last).since(steps.until(self.first))
        took = max(0.0, last - self.first - self.preempted_rest)
        self.others_rest = min(took, max(0.0, during.slowed - self.slowed_lost))
        self.decode = took - self.others_rest
        self.output, self.ended = output, last
        busy = self._stepped.busy + during.busy
        self.batch = (self._stepped.batch + during.batch) / busy if busy > 0 else UNKNOWN
