"""vLLM's CPU worker: it tells how long drafting takes, and mends faults of the pinned version, each with its issue."""

import os
import time
from pathlib import Path
from typing import Any

import torch
from vllm.v1.sample import rejection_sampler
from vllm.v1.worker import cpu_worker

from slipstream_runtime.engine.gain import TALLY_ENV, Tally


class CPUWorker(cpu_worker.CPUWorker):  # type: ignore[misc] # vLLM is not typed
    """Named by `--worker-cls`, so that it is what the engine core makes, in whichever process that is."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        rejection_sampler.expand_batch_to_tokens = expand_batch_to_tokens
        if torch.cpu._is_amx_tile_supported():
            torch._scaled_mm = scaled_mm
        super().__init__(*args, **kwargs)

    def init_device(self) -> None:
        """Measure how long drafting takes; that is all of it, for a CPU has computed when it returns."""
        super().init_device()
        if (file := os.environ.get(TALLY_ENV)) and self.rank == 0:
            runner = self.model_runner
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
    """`torch._scaled_mm` by way of bfloat16, which holds every fp8 number: [m, k] x [k, n] -> [m, n].

    Where a CPU has AMX but no fp8 in it, PyTorch 2.13 hands fp8 products to oneDNN's reference kernel, which takes 20
    to 60 times as long as the CPU's own bfloat16 (21 ms for [7, 128] x [128, 384]).
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
    """Each request's value, once for each of its draft tokens: [requests] -> [num_tokens], in x's dtype.

    vLLM's own writes into a copy on CPU, so sampled requests with a draft got uninitialised memory for temperature,
    top_k and top_p (https://github.com/vllm-project/vllm/issues/55005).
    """
    counts = torch.diff(cu_num_tokens, prepend=cu_num_tokens.new_zeros(1))
    values = x.masked_fill(x == replace_from, replace_to)
    return values.repeat_interleave(counts, output_size=num_tokens)
