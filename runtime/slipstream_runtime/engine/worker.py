"""vLLM's CPU worker with fixes for the pinned version, which also measures the time of drafting."""

import os
import time
from pathlib import Path
from typing import Any

import torch
from vllm.v1.sample import rejection_sampler
from vllm.v1.worker import cpu_worker

from slipstream_runtime.engine import drafting
from slipstream_runtime.engine.gain import TALLY_ENV, Tally


class CPUWorker(cpu_worker.CPUWorker):  # type: ignore[misc] # vLLM is not typed
    """Worker that the engine core creates, in any process, because `--worker-cls` names it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        rejection_sampler.expand_batch_to_tokens = expand_batch_to_tokens
        if torch.cpu._is_amx_tile_supported():
            torch._scaled_mm = scaled_mm
        super().__init__(*args, **kwargs)

    def init_device(self) -> None:
        """Skip drafting where none is ordered, and measure its time; on a CPU it is complete when the call returns."""
        super().init_device()
        if not (file := os.environ.get(TALLY_ENV)):
            return
        runner = self.model_runner
        drafting.skip(runner)
        if self.rank == 0:
            runner.propose_draft_token_ids = Tally.open(Path(file)).timed(
                runner.propose_draft_token_ids, clock=time.monotonic
            )


def scaled_mm(
    a: torch.Tensor,
    b: torch.Tensor,
    *,
    scale_a: torch.Tensor,
    scale_b: torch.Tensor,
    bias: torch.Tensor | None = None,
    out_dtype: torch.dtype = torch.bfloat16,
    **_: Any,
) -> torch.Tensor:
    """Replace `torch._scaled_mm` by a product in bfloat16, which holds every fp8 number: [m, k] x [k, n] -> [m, n].

    On a CPU with AMX but without fp8, PyTorch 2.13 uses oneDNN's reference kernel for fp8 products. It takes 20 to 60
    times as long as bfloat16 (21 ms for [7, 128] x [128, 384]).
    """
    product = torch.mm(a.to(torch.bfloat16), b.to(torch.bfloat16)).float() * scale_a * scale_b
    return (product if bias is None else product + bias).to(out_dtype)


def expand_batch_to_tokens(
    x: torch.Tensor,
    cu_num_tokens: torch.Tensor,
    num_tokens: int,
    replace_from: float = 0,
    replace_to: float = 0,
) -> torch.Tensor:
    """Return each request's value once for each of its draft tokens: [requests] -> [num_tokens], in x's dtype.

    vLLM's function writes into a copy on CPU, so sampled requests with a draft got uninitialized memory for
    temperature, top_k and top_p (https://github.com/vllm-project/vllm/issues/55005).
    """
    counts = torch.diff(cu_num_tokens, prepend=cu_num_tokens.new_zeros(1))
    values = x.masked_fill(x == replace_from, replace_to)
    return values.repeat_interleave(counts, output_size=num_tokens)
