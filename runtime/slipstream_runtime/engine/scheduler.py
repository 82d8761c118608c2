"""vLLM's schedulers with windows without speculation, in the engine core's process.

They use vLLM's support for speculation that depends on the batch size: the number of draft tokens that a step orders
for the next one. It is zero inside a window. A draft model then still reads each token, in one pass, so its KV cache
has no gaps. Answers do not change, because draft tokens never decide them.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vllm.v1.core.sched import async_scheduler, scheduler
from vllm.v1.outputs import DraftTokenIds

from slipstream_runtime.engine.gain import TALLY_ENV, Tally
from slipstream_runtime.engine.windows import Windows

_Base: Any = scheduler.Scheduler if TYPE_CHECKING else object


class _Sampling(_Base):  # type: ignore[misc] # vLLM is not typed
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.clock: Callable[[], float] = time.monotonic
        self._tally = Tally.open(Path(os.environ[TALLY_ENV]))
        self._windows = Windows()
        self._suspended = False
        self._none_for_any_size = [0] * (self.scheduler_config.max_num_seqs + 1)
        self._since: float | None = None
        """Time at which the step that is processed next was scheduled; None without one."""
        self._ordered: int | None = None
        """Draft tokens that the last processed step ordered for the next one."""
        self._drafting = self._tally.drafting
        """Seconds of drafting up to that step."""

    def schedule(self, *args: Any, **kwargs: Any) -> Any:
        if self._since is None:
            self._since = self.clock()
        self._suspended = self._windows.suspended
        self.dynamic_sd_lookup = self._none_for_any_size if self._suspended else None
        step = super().schedule(*args, **kwargs)
        if step.num_scheduled_tokens and self._windows.step():
            self._tally.age()
        return step

    def update_draft_token_ids(self, draft_token_ids: DraftTokenIds) -> None:
        if self._suspended:
            # NB: some methods draft although no draft token was ordered.
            draft_token_ids.draft_token_ids = [[] for _ in draft_token_ids.req_ids]
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
        """Count the step if it is in or beside a window, only decoded, and did not switch speculation on or off."""
        verifies, orders = self._ordered, step.num_spec_tokens_to_schedule
        if self._since is None or verifies is None or bool(verifies) != bool(orders):
            return
        if not self._windows.near:
            return
        drafted = step.scheduled_spec_decode_tokens
        for request, tokens in step.num_scheduled_tokens.items():
            if tokens != 1 + len(drafted.get(request, ())):
                return
        self._tally.add(
            speculating=bool(orders),
            batch=len(step.num_scheduled_tokens),
            tokens=sum(len(one.new_token_ids) for each in outputs.values() for one in each.outputs),
            seconds=now - self._since,
            drafting=self._tally.drafting - self._drafting,
        )


class Scheduler(_Sampling, scheduler.Scheduler):  # type: ignore[misc]
    """vLLM's scheduler, with windows."""


class AsyncScheduler(_Sampling, async_scheduler.AsyncScheduler):  # type: ignore[misc]
    """vLLM's scheduler that schedules a step while the previous one runs, with windows."""
