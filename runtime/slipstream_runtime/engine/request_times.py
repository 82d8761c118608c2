"""Times of vLLM's requests by cause, from vLLM's own events and statistics.

vLLM reports the tokens of each step, and with a request's outputs the times at which it was queued, started and
preempted. All times are in seconds of the engine core's clock.
"""

import time
from collections.abc import Sequence
from typing import Any

from prometheus_client.registry import Collector
from vllm.config import VllmConfig
from vllm.v1.engine import EngineCoreEventType, EngineCoreOutput
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.output_processor import RequestState
from vllm.v1.metrics.loggers import StatLoggerBase
from vllm.v1.metrics.stats import IterationStats, MultiModalCacheStats, SchedulerStats

from slipstream_runtime.recording.metrics import StepMetrics
from slipstream_runtime.recording.steps import Steps
from slipstream_runtime.recording.times import Times
from slipstream_runtime.recording.visits import CURRENT, Visit

_SEQUENCE = "slipstream_sequence"
"""Attribute of vLLM's state of a request."""


class RequestTimes:
    """Times of all requests of one client of vLLM's engine cores."""

    def __init__(self) -> None:
        self._steps: list[Steps] = []
        self._noted: list[tuple[_Sequence, EngineCoreOutput, bool]] = []
        """Outputs of the newest step with events, and whether the request had no token before."""
        self._step_ended: float | None = None
        """Time at which the newest step with outputs ended."""

    def loggers(self, config: VllmConfig, *, shown: bool) -> "Loggers":
        """Return a factory of vLLM's loggers of statistics; `shown` if vLLM also writes each step to its log."""
        return Loggers(self, config, shown=shown)

    def add_engine(self, sequences: int) -> Steps:
        """Return the history of one more engine core's steps."""
        self._steps.append(steps := Steps(sequences=sequences))
        return steps

    def collector(self) -> Collector:
        """Return the metrics of the steps."""
        return StepMetrics(self._steps)

    def attach(self, client: AsyncLLM) -> None:
        """Follow the requests of this client."""
        processor = client.output_processor
        states, add, process = (
            processor.request_states,
            processor.add_request,
            processor.process_outputs,
        )

        def add_request(request: Any, *args: Any, **kwargs: Any) -> None:
            visit = CURRENT.get()
            known = request.request_id in states
            add(request, *args, **kwargs)
            if visit is not None and not known:
                state = states[request.request_id]
                sequence = _Sequence(visit, state)
                setattr(state, _SEQUENCE, sequence)
                visit.sequences.append(sequence)

        def process_outputs(
            outputs: list[EngineCoreOutput],
            timestamp: float | None = None,
            *args: Any,
            **kwargs: Any,
        ) -> Any:
            for output in outputs:
                if output.events is not None:
                    state = states.get(output.request_id)
                    sequence = getattr(state, _SEQUENCE, None)
                    if state is not None and sequence is not None:
                        self._noted.append((sequence, output, state.is_prefilling))
            if outputs:
                self._step_ended = timestamp
            return process(outputs, timestamp, *args, **kwargs)

        processor.add_request = add_request
        processor.process_outputs = process_outputs

    def stepped(self) -> float | None:
        """Return the end of the newest step, if it had outputs."""
        ended, self._step_ended = self._step_ended, None
        return ended

    def follow(self, steps: Steps) -> None:
        """Take the events of the newest step, which is part of `steps`."""
        noted, self._noted = self._noted, []
        for sequence, output, prefilling in noted:
            sequence.follow(steps, output, prefilling=prefilling)


class Loggers:
    """Factory of loggers, which vLLM calls once for each engine core."""

    def __init__(self, times: RequestTimes, config: VllmConfig, *, shown: bool) -> None:
        self._times = times
        self._shown = shown
        scheduler = config.scheduler_config
        self._sequences = scheduler.max_num_active_seqs or scheduler.max_num_seqs
        speculation = config.speculative_config
        self._draft = 0 if speculation is None else speculation.num_speculative_tokens or 0

    def __call__(self, config: VllmConfig, engine_index: int = 0) -> "_Logger":
        """Return the logger of one engine core."""
        steps = self._times.add_engine(self._sequences)
        return _Logger(self._times, steps, draft=self._draft, shown=self._shown)


class _Logger(StatLoggerBase):  # type: ignore[misc] # vLLM is not typed
    """Logger that keeps the steps of one engine core."""

    def __init__(self, times: RequestTimes, steps: Steps, *, draft: int, shown: bool) -> None:
        self._times = times
        self._steps = steps
        self._draft = draft
        self._shown = shown
        self._behind = 0.0
        """Seconds by which this process's clock is ahead of the engine core's time of the newest outputs."""
        self._busy = False
        """Whether requests ran after the last step."""

    def record(
        self,
        scheduler_stats: SchedulerStats | None,
        iteration_stats: IterationStats | None,
        mm_cache_stats: MultiModalCacheStats | None = None,
        engine_idx: int = 0,
    ) -> None:
        """Take the newest step."""
        now, ended = time.monotonic(), self._times.stepped()
        if ended is None:
            ended = now - self._behind
        else:
            self._behind = now - ended
        if scheduler_stats is not None:
            self._add(scheduler_stats, ended)
        self._times.follow(self._steps)

    def log_engine_initialized(self) -> None:
        """Log nothing."""

    def _add(self, stats: SchedulerStats, ended: float) -> None:
        details = stats.iteration_details
        if details is not None and not details.is_dummy:
            before = self._steps.ended
            began = ended - details.elapsed_ms / 1000
            if before is not None:
                # NB: steps follow each other without a gap while requests run.
                began = before if self._busy else max(began, before)
            decoded = details.num_generation_requests
            # NB: vLLM counts tokens that are computed again after a preemption as generated.
            again = max(0, details.num_generation_tokens - decoded * (1 + self._draft))
            self._steps.add(
                began=min(began, ended),
                ended=ended,
                prompt=details.num_ctx_tokens + again,
                decoded=decoded,
                sequences=details.num_ctx_requests + decoded,
            )
        if not self._shown:
            stats.iteration_details = (
                None  # NB: vLLM's next logger would write a line for each step
            )
        self._busy = stats.num_running_reqs > 0


class _Sequence:
    """Sequence of vLLM, between its start and the end of its request."""

    def __init__(self, visit: Visit, state: RequestState) -> None:
        self._visit = visit
        self._state = state
        self._steps: Steps | None = None
        self._times = Times(state.prompt_len)

    def follow(self, steps: Steps, output: EngineCoreOutput, *, prefilling: bool) -> None:
        """Take the events of an output."""
        stats = self._state.stats
        lost = _lost(output)
        if not prefilling:
            for start, _ in lost:
                self._times.lose(steps, start=start, end=stats.last_token_ts)
            return
        self._steps = steps
        found = output.prefill_stats
        cached = self._state.num_cached_tokens if found is None else found.num_cached_tokens
        self._times.begin(
            steps,
            queued=stats.queued_ts,
            scheduled=stats.scheduled_ts,
            first=stats.first_token_ts,
            computed=self._state.prompt_len - cached
            if found is None
            else found.num_computed_tokens,
            cached=cached,
            lost=[(start, end) for start, end in lost if end is not None],
        )
        if self._visit.first is None:
            self._visit.first = time.monotonic()

    def close(self) -> Times:
        """Return its times; the request has ended."""
        stats, times = self._state.stats, self._times
        if self._steps is not None:
            times.end(self._steps, last=stats.last_token_ts, output=stats.num_generation_tokens)
            if (drafted := self._state.spec_decode_metrics) is not None:
                times.drafted = drafted.num_draft_tokens
                times.accepted = sum(
                    tokens * count for tokens, count in enumerate(drafted.histogram)
                )
        return times


def _lost(output: EngineCoreOutput) -> Sequence[tuple[float, float | None]]:
    """Return the times of each preemption and of the start after it."""
    lost: list[tuple[float, float | None]] = []
    for event in output.events or ():
        if event.type == EngineCoreEventType.PREEMPTED:
            lost.append((event.timestamp, None))
        elif event.type == EngineCoreEventType.SCHEDULED and lost:
            lost[-1] = (lost[-1][0], event.timestamp)
    return lost
