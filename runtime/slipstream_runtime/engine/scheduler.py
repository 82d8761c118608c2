"""vLLM's schedulers with a number of draft tokens that follows the measured gain, in the engine core's process.

They use vLLM's support for speculation that depends on the batch size: the number of draft tokens that a step orders
for the next one. Answers do not change, because draft tokens never decide them.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from vllm.v1.core.sched import async_scheduler, scheduler
from vllm.v1.outputs import DraftTokenIds

from slipstream_runtime.engine import draft_lengths
from slipstream_runtime.engine.draft_lengths import DraftLengths, Step
from slipstream_runtime.engine.gain import TALLY_ENV, Tally

_SHOWN: Final = 64
"""Steps after which the metrics show the present numbers of draft tokens."""

_Base: Any = scheduler.Scheduler if TYPE_CHECKING else object


class _Lookup:
    """Number of draft tokens by batch size, in the place of vLLM's fixed list."""

    def __init__(self, lengths: DraftLengths) -> None:
        self._lengths = lengths

    def __getitem__(self, batch: int) -> int:
        return self._lengths.choose(batch)


class _Sampling(_Base):  # type: ignore[misc] # vLLM is not typed
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.clock: Callable[[], float] = time.monotonic
        self._tally = Tally.open(Path(os.environ[TALLY_ENV]))
        self.lengths = DraftLengths(self.num_spec_tokens)
        self.dynamic_sd_lookup = _Lookup(self.lengths)
        self._since: float | None = None
        """Time at which the step that is processed next was scheduled; None without one."""
        self._ordered: int | None = None
        """Draft tokens that the last processed step ordered for the next one."""
        self._steps = 0
        self._latest = 0
        """Draft tokens that the last scheduled step ordered."""
        self._drafting = self._tally.drafting
        """Seconds of drafting up to that step."""

    def schedule(self, *args: Any, **kwargs: Any) -> Any:
        if self._since is None:
            self._since = self.clock()
        step = super().schedule(*args, **kwargs)
        self._latest = step.num_spec_tokens_to_schedule
        return step

    def update_draft_token_ids(self, draft_token_ids: DraftTokenIds) -> None:
        # NB: some methods draft more tokens than were ordered.
        draft_token_ids.draft_token_ids = [
            tokens[: self._latest] for tokens in draft_token_ids.draft_token_ids
        ]
        super().update_draft_token_ids(draft_token_ids)

    def update_from_output(self, scheduler_output: Any, model_runner_output: Any) -> Any:
        outputs = super().update_from_output(scheduler_output, model_runner_output)
        now = self.clock()
        if scheduler_output.num_scheduled_tokens:
            self._count(scheduler_output, outputs, now=now)
            self._ordered = scheduler_output.num_spec_tokens_to_schedule
        self._since = now if self.has_unfinished_requests() else None
        self._drafting = self._tally.drafting
        return outputs

    def _count(self, step: Any, outputs: Any, *, now: float) -> None:
        """Learn from the step. Count it if it only decoded and did not change the number of draft tokens."""
        if self._since is None or self._ordered is None:
            return
        drafted, prompts = step.scheduled_spec_decode_tokens, 0
        decoding = set()
        for request, tokens in step.num_scheduled_tokens.items():
            if tokens == 1 + len(drafted.get(request, ())):
                decoding.add(request)
            else:
                prompts += tokens
        done = Step(
            batch=len(step.num_scheduled_tokens),
            verified=self._ordered,
            ordered=step.num_spec_tokens_to_schedule,
            emitted=[
                len(one.new_token_ids)
                for each in outputs.values()
                for one in each.outputs
                if one.request_id in decoding
            ],
            seconds=now - self._since,
            drafting=self._tally.drafting - self._drafting,
            prompt_tokens=prompts,
        )
        if not prompts and done.verified == done.ordered:
            self._tally.add(
                draft_lengths.group(done.batch),
                done.verified,
                tokens=sum(done.emitted),
                seconds=done.seconds,
                drafting=done.drafting,
            )
        self._steps += 1
        if self.lengths.observe(done) or self._steps % _SHOWN == 0:
            self._tally.choose(self.lengths.choices())


class Scheduler(_Sampling, scheduler.Scheduler):  # type: ignore[misc]
    """vLLM's scheduler, with measured numbers of draft tokens."""


class AsyncScheduler(_Sampling, async_scheduler.AsyncScheduler):  # type: ignore[misc]
    """vLLM's scheduler that schedules a step while the previous one runs, with measured numbers of draft tokens."""
