"""Limits of a request, and of the requests at once."""

from typing import Annotated, Final

import pydantic

from slipstream_runtime.host.admission import Gate
from slipstream_runtime.part import Part, Positive

QUEUE_PER_PLACE: Final = 4
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
    """Requests that wait while all places are taken."""

    def gate(self, *, places: int | None) -> Gate:
        """The gate for these limits; `places` is what the engine by itself runs at once, if it says so.

        Without `concurrency` the requests wait inside the engine, which schedules them and measures their wait;
        the gate then only bounds how many wait there.
        """
        if self.concurrency is not None:
            return Gate(concurrency=self.concurrency, queue=self._queue(self.concurrency))
        if places is None:
            return Gate(concurrency=None, queue=0)
        return Gate(concurrency=places + self._queue(places), queue=0)

    def _queue(self, places: int) -> int:
        return QUEUE_PER_PLACE * places if self.queue is None else self.queue
