"""Series of an engine and of the router: names, labels and the kernel's columns that hold their values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

import numpy as np

from slipstream_runtime import contract
from slipstream_runtime.simulator import model
from slipstream_simulator.kernel import fleet, layout
from slipstream_simulator.kernel.layout import Floats

BLOCK_SIZE: Final = 16
Labels: TypeAlias = Mapping[str, str]
Kind: TypeAlias = Literal["gauge", "counter", "info"]


@dataclass(frozen=True)
class Field:
    """Series of each target."""

    metric: str
    column: int
    kind: Kind
    labels: Labels = field(default_factory=dict)


_RUNNING, _WAITING, _KV, _TOKENS, _COMPUTED, _CACHED, _PREEMPTIONS, _SUCCEEDED = range(
    fleet.SCALARS
)
_PROMPTS, _IN_FLIGHT, _ZERO, _ONE, _KV_TOKENS = range(fleet.FIELDS, fleet.FIELDS + 5)
"""Columns that `extended` adds."""

_HISTOGRAMS: Final = {
    layout.TTFT: contract.TTFT,
    layout.TPOT: contract.TPOT,
    layout.ITL: contract.ITL,
    layout.E2E: contract.E2E,
    layout.QUEUE: "vllm:request_queue_time_seconds",
    layout.PROMPT: "vllm:request_prompt_tokens",
    layout.OUTPUT: "vllm:request_generation_tokens",
    layout.ITERATION: "vllm:iteration_tokens_total",
}


def extended(read: Floats, *, kv_tokens: int) -> Floats:
    """Columns that the kernel reads of each engine, with sums and constants as further columns."""
    more = np.zeros((len(read), 5))
    more[:, 0] = read[:, _COMPUTED] + read[:, _CACHED]
    more[:, 1] = read[:, _RUNNING] + read[:, _WAITING]
    more[:, 3] = 1
    more[:, 4] = kv_tokens
    return np.hstack([read, more])


def engine(parameters: model.Parameters) -> tuple[Field, ...]:
    """Return the series of one engine, as vLLM 0.32 and Slipstream's engine export them."""
    common = {"model_name": "model", "engine": "0"}
    fields = [
        Field(contract.RUNNING, _RUNNING, "gauge", common),
        Field(contract.WAITING, _WAITING, "gauge", common),
        Field(f"{contract.WAITING}_by_reason", _WAITING, "gauge", {**common, "reason": "capacity"}),
        Field(f"{contract.WAITING}_by_reason", _ZERO, "gauge", {**common, "reason": "deferred"}),
        Field(contract.KV_USAGE, _KV, "gauge", common),
        Field(contract.IN_FLIGHT, _IN_FLIGHT, "gauge"),
        Field(contract.KV_CAPACITY, _KV_TOKENS, "info"),
        Field(
            contract.CACHE_INFO,
            _ONE,
            "info",
            {
                "engine": "0",
                "block_size": str(BLOCK_SIZE),
                "num_gpu_blocks": str(parameters.kv_tokens // BLOCK_SIZE),
                "kv_cache_size_tokens": str(parameters.kv_tokens),
            },
        ),
        Field(contract.GENERATION_TOKENS, _TOKENS, "counter", common),
        Field(contract.PROMPT_TOKENS, _PROMPTS, "counter", common),
        Field("vllm:prompt_tokens_cached_total", _CACHED, "counter", common),
        Field("vllm:prefix_cache_hits_total", _CACHED, "counter", common),
        Field("vllm:prefix_cache_queries_total", _PROMPTS, "counter", common),
        Field("vllm:num_preemptions_total", _PREEMPTIONS, "counter", common),
    ]
    sources = {
        "local_compute": _COMPUTED,
        "local_cache_hit": _CACHED,
        "external_kv_transfer": _ZERO,
    }
    fields += [
        Field("vllm:prompt_tokens_by_source_total", column, "counter", {**common, "source": source})
        for source, column in sources.items()
    ]
    reasons = {"stop": _SUCCEEDED, "length": _ZERO, "abort": _ZERO, "error": _ZERO}
    fields += [
        Field(contract.REQUEST_SUCCESS, column, "counter", {**common, "finished_reason": reason})
        for reason, column in reasons.items()
    ]
    fields += [
        Field(
            "vllm:admission_rejections_total",
            _ZERO,
            "counter",
            {"model_name": "model", "reason": reason},
        )
        for reason in ("max_num_queued_reqs", "max_num_queued_tokens")
    ]
    for histogram, name in _HISTOGRAMS.items():
        fields += _histogram(name, histogram, common)
    return tuple(fields)


def _histogram(name: str, histogram: int, common: Labels) -> list[Field]:
    start = fleet.SCALARS + histogram * (fleet.WIDTH + 1)
    bounds = [*map(str, fleet.BUCKETS[histogram]), "+Inf"]
    buckets = [
        Field(f"{name}_bucket", start + index, "counter", {**common, "le": bound})
        for index, bound in enumerate(bounds)
    ]
    return [
        *buckets,
        Field(f"{name}_count", start + len(bounds) - 1, "counter", common),
        Field(f"{name}_sum", start + fleet.WIDTH, "counter", common),
    ]


ROUTER: Final = (
    Field(contract.ROUTER_REQUESTS, 0, "counter"),
    Field(contract.ROUTER_QUEUED, 1, "gauge"),
    Field(contract.ROUTER_IN_FLIGHT, 2, "gauge"),
    Field(contract.ROUTER_CANCELLED, 3, "counter"),
)
"""Series of the router for one service."""
