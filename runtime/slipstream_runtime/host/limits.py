"""Limits of a request, and of the requests at once."""

from typing import Annotated, Final

import pydantic

from slipstream_runtime.host.admission import Slots
from slipstream_runtime.part import Part, Positive

QUEUE_PER_SLOT: Final = 4
"""Requests that may wait for each one that runs, where `queue` says nothing."""


class Limits(Part):
    """None is no limit, but for `queue`, which is bounded always."""

    max_output_tokens: Positive | None = None
    """Of one request, over all its choices and prompts; also what a request gets that names none."""
    max_prompt_tokens: Positive | None = None
    """Of each prompt, as the engine's tokenizer counts."""
    timeout_seconds: Annotated[float, pydantic.Field(gt=0)] | None = None
    """From the head of the request to the end of the answer."""
    concurrency: Positive | None = None
    """Requests that run at once; None leaves that to the engine."""
    queue: Annotated[int, pydantic.Field(ge=0)] | None = None
    """Requests that wait while all slots are taken."""

    def slots(self, *, engine_slots: int | None) -> Slots:
        """The gate for these limits; `engine_slots` is what the engine by itself runs at once, if it says so.

        Without `concurrency` the requests wait inside the engine, which schedules them and measures their wait;
        the gate then only bounds how many wait there.
        """
        if self.concurrency is not None:
            return Slots(concurrency=self.concurrency, queue=self._queue(self.concurrency))
        if engine_slots is None:
            return Slots(concurrency=None, queue=0)
        return Slots(concurrency=engine_slots + self._queue(engine_slots), queue=0)

    def _queue(self, engine_slots: int) -> int:
        return QUEUE_PER_SLOT * engine_slots if self.queue is None else self.queue
