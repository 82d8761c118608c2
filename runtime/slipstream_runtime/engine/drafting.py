"""Drafting that is skipped in steps that order no draft tokens, in a worker of vLLM's CPU model runner.

vLLM runs a draft model once in every step, so that its KV cache has no gaps. An engine without speculation would not.
So the pass is skipped, and the draft model reads the tokens that it missed when draft tokens are ordered again. Until
then their places in its KV cache are marked, because other requests may share them by the prefix cache.
"""

import dataclasses
from collections.abc import Iterable
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from vllm.forward_context import set_forward_context

_NGRAM: Final = "ngram"


def skip(runner: Any) -> None:
    """Skip drafting in steps that order no draft tokens, for methods that can do without it.

    Heads such as EAGLE need hidden states of the model, which nothing keeps. They go on drafting in each step.
    """
    speculation = runner.speculative_config
    if speculation.method == _NGRAM:
        runner.propose_draft_token_ids = _without_lookup(runner.propose_draft_token_ids)
    elif speculation.uses_draft_model() and not _has_media(runner):
        runner.propose_draft_token_ids = CatchingUp(runner).propose
    else:
        return
    if not runner.model_config.is_hybrid:
        runner._prepare_inputs = _without_verification(runner)


def _has_media(runner: Any) -> bool:
    return bool(runner.supports_mm_inputs and runner.drafter.supports_mm_inputs)


def _without_verification(runner: Any) -> Any:
    """Return a function that prepares a step without draft tokens as an engine without speculation does.

    vLLM's own one prepares to verify no draft tokens, and then samples in a way that takes longer.
    """
    prepare = runner._prepare_inputs

    def prepared(scheduler_output: Any, *args: Any, **kwargs: Any) -> Any:
        if scheduler_output.scheduled_spec_decode_tokens:
            return prepare(scheduler_output, *args, **kwargs)
        speculation, runner.speculative_config = runner.speculative_config, None
        try:
            return prepare(scheduler_output, *args, **kwargs)
        finally:
            runner.speculative_config = speculation

    return prepared


def _without_lookup(propose: Any) -> Any:
    def lookup(scheduler_output: Any, sampled_token_ids: Any, *args: Any) -> Any:
        if scheduler_output.num_spec_tokens_to_schedule == 0:
            return [[] for _ in sampled_token_ids]
        return propose(scheduler_output, sampled_token_ids, *args)

    return lookup


@dataclasses.dataclass(frozen=True)
class _Span:
    """Tokens of a request that the draft model has not read."""

    row: int
    """Row of the request in the batch."""
    first: int
    end: int


class CatchingUp:
    """Draft model that reads the tokens it missed before it drafts again."""

    def __init__(self, runner: Any) -> None:
        self._runner = runner
        self._propose = runner.propose_draft_token_ids
        self._missing: dict[str, int] = {}
        """Request -> first position that the draft model has not read."""
        self._read: npt.NDArray[np.bool_] = np.zeros(0, dtype=np.bool_)
        """Whether the draft model has read the token in this slot of the KV cache."""

    def propose(
        self, scheduler_output: Any, sampled_token_ids: Any, sampling: Any, *args: Any
    ) -> Any:
        """Draft as vLLM does, or not at all."""
        metadata = args[-2]
        for request in scheduler_output.finished_req_ids:
            self._missing.pop(request, None)
        orders = scheduler_output.num_spec_tokens_to_schedule
        self._find_gaps(scheduler_output, metadata)
        self._mark(metadata.slot_mapping, read=bool(orders))
        if orders == 0:
            for row, request in enumerate(self._runner.input_batch.req_ids):
                if request not in self._missing:
                    self._missing[request] = self._computed(row)
            return torch.empty((len(sampled_token_ids), 0), dtype=torch.int64)
        if self._missing:
            self._catch_up(metadata)
        return self._propose(scheduler_output, sampled_token_ids, sampling, *args)

    def _computed(self, row: int) -> int:
        return int(self._runner.input_batch.num_computed_tokens_cpu[row])

    def _find_gaps(self, scheduler_output: Any, metadata: Any) -> None:
        """Find the tokens of new requests that the prefix cache had, and that the draft model has not read."""
        resumed = scheduler_output.scheduled_cached_reqs.resumed_req_ids
        new = {one.req_id for one in scheduler_output.scheduled_new_reqs}
        for request in {*new, *resumed}:
            self._missing.pop(request, None)
            row = self._runner.input_batch.req_id_to_index.get(request)
            if row is None or not (computed := self._computed(row)):
                continue
            slots = self._slots(metadata, _Span(row, 0, computed))
            self._grow(slots)
            unread = np.flatnonzero(~self._read[slots])
            if unread.size:
                self._missing[request] = int(unread[0])

    def _mark(self, mapping: torch.Tensor, *, read: bool) -> None:
        slots = mapping.numpy()
        slots = slots[slots >= 0]
        self._grow(slots)
        self._read[slots] = read

    def _grow(self, slots: npt.NDArray[np.int64]) -> None:
        if slots.size and (most := int(slots.max())) >= self._read.size:
            self._read = np.pad(self._read, (0, 2 * (most + 1) - self._read.size))

    def _slots(self, metadata: Any, span: _Span) -> npt.NDArray[np.int64]:
        """Return the slots of the tokens in the KV cache."""
        size = self._runner.drafter.block_size
        positions = np.arange(span.first, span.end)
        table: npt.NDArray[np.int32] = metadata.block_table_tensor[span.row].numpy()
        slots: npt.NDArray[np.int64] = table[positions // size] * size + positions % size
        return slots

    def _catch_up(self, metadata: Any) -> None:
        """Read what the requests of this step miss, except for the tokens of the step, which drafting reads."""
        rows = self._runner.input_batch.req_id_to_index
        spans = []
        for request, first in list(self._missing.items()):
            row = rows.get(request)
            if row is None:
                continue
            del self._missing[request]
            if first < (end := self._computed(row)):
                spans.append(_Span(row, first, end))
        for batch in _batches(spans, most=self._runner.drafter.max_num_tokens):
            self._read_tokens(batch, metadata)

    def _read_tokens(self, spans: list[_Span], metadata: Any) -> None:
        """Run the draft model over the tokens, which only fills its KV cache."""
        drafter, inputs = self._runner.drafter, self._runner.input_batch
        lengths = np.array([span.end - span.first for span in spans], dtype=np.int32)
        count = int(lengths.sum())
        positions = torch.from_numpy(
            np.concatenate([np.arange(span.first, span.end) for span in spans])
        )
        tokens = torch.from_numpy(
            np.concatenate(
                [inputs.token_ids_cpu[span.row, span.first : span.end] for span in spans]
            )
        )
        if drafter.use_heterogeneous_vocab:
            tokens = drafter.vocab_mapping.map_target_to_draft_ids(tokens)
        slots = np.concatenate([self._slots(metadata, span) for span in spans])
        starts = torch.from_numpy(np.concatenate([[0], lengths.cumsum()]).astype(np.int32))
        ends = torch.tensor([span.end for span in spans], dtype=metadata.seq_lens.dtype)
        rows = torch.tensor([span.row for span in spans])
        missed = dataclasses.replace(
            metadata,
            query_start_loc=starts,
            query_start_loc_cpu=starts,
            seq_lens=ends,
            num_reqs=len(spans),
            num_actual_tokens=count,
            max_query_len=int(lengths.max()),
            max_seq_len=int(ends.max()),
            block_table_tensor=metadata.block_table_tensor[rows],
            slot_mapping=torch.from_numpy(slots).to(metadata.slot_mapping.dtype),
        )
        drafter.input_ids[:count] = tokens
        drafter._set_positions(count, positions)
        _, layers = drafter.build_per_group_and_layer_attn_metadata(missed)
        mode, padded, _ = drafter._determine_batch_execution_and_padding(count)
        arguments, size = drafter.build_model_inputs_first_pass(count, padded, None)
        with set_forward_context(
            layers,
            drafter.vllm_config,
            num_tokens=padded,
            num_tokens_across_dp=None,
            cudagraph_runtime_mode=mode,
            slot_mapping=drafter._get_slot_mapping(size, missed.slot_mapping),
        ):
            drafter.model(**arguments)
        self._read[slots] = True


def _batches(spans: Iterable[_Span], *, most: int) -> Iterable[list[_Span]]:
    """Group the spans into batches of at most `most` tokens; a longer span is split."""
    batch: list[_Span] = []
    room = most
    for span in spans:
        first = span.first
        while first < span.end:
            end = min(span.end, first + room)
            batch.append(_Span(span.row, first, end))
            room -= end - first
            first = end
            if not room:
                yield batch
                batch, room = [], most
    if batch:
        yield batch
