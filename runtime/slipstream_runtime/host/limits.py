"""Limits of one request, and of concurrent requests."""

from typing import Annotated, Final

import pydantic

from slipstream_runtime.host.admission import Slots
from slipstream_runtime.part import Part, Positive

QUEUE_PER_SLOT: Final = 4
"""Waiting requests per slot, where `queue` is not set."""


class Limits(Part):
    """Limits of a service; None is no limit, except for `queue`, which always has one."""

    max_output_tokens: Positive | None = None
    """Output tokens of one request, over all its choices and prompts; also the default of a request without a limit."""
    max_prompt_tokens: Positive | None = None
    """Tokens of each prompt, as the engine's tokenizer counts them."""
    timeout_seconds: Annotated[float, pydantic.Field(gt=0)] | None = None
    """Seconds from the headers of the request to the end of the answer."""
    body_seconds: Annotated[float, pydantic.Field(gt=0)] = 60.0
    """Seconds in which the client must send the body."""
    concurrency: Positive | None = None
    """Requests that run at once; None leaves that to the engine."""
    queue: Annotated[int, pydantic.Field(ge=0)] | None = None
    """Requests that may wait while no slot is free."""
    max_answers: Positive = 256
    """Answers of one request: its choices for each of its prompts. Each takes a place of `concurrency`."""
    max_prompt_logprobs: Annotated[int, pydantic.Field(ge=0)] = 1
    """Log probabilities for each token of the prompt."""
    max_messages: Positive = 4096
    """Messages of a chat, and parts of them."""
    max_tools: Positive = 256
    """Tools of a chat."""
    max_media: Positive = 16
    """Images, audio and video of a request."""

    def slots(self, *, engine_slots: int | None) -> Slots:
        """Return the slots for these limits; `engine_slots` is the number of requests that the engine runs at once.

        Without `concurrency`, requests wait inside the engine, which schedules them and measures their wait. The slots
        then only limit how many wait there.
        """
        if self.concurrency is not None:
            return Slots(concurrency=self.concurrency, queue=self._queue(self.concurrency))
        if engine_slots is None:
            return Slots(concurrency=None, queue=0)
        return Slots(concurrency=engine_slots + self._queue(engine_slots), queue=0)

    def _queue(self, engine_slots: int) -> int:
        return QUEUE_PER_SLOT * engine_slots if self.queue is None else self.queue
