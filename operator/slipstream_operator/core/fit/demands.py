"""Inputs of the memory check, from an engine's configuration."""

from collections.abc import Mapping
from typing import Any, Final

from slipstream_operator.api import units
from slipstream_operator.api.servingprofile import Accelerator
from slipstream_operator.core import devices
from slipstream_operator.core.facts import Facts, ModelFacts
from slipstream_operator.core.fit.memory import UTILIZATION, Demand
from slipstream_operator.core.observed import Manifest
from slipstream_operator.core.parallelism import Split

KV_BYTES: Final[Mapping[str, int]] = {
    "fp8": 1, "fp8_e4m3": 1, "fp8_e5m2": 1, "fp8_inc": 1, "int8_per_token_head": 1,
    "fp8_per_token_head": 1, "float32": 4,
}  # fmt: skip
"""vLLM's --kv-cache-dtype -> bytes of a value; all others count as 2."""


OTHER_MODEL: Final = ("hf-overrides", "model-class-overrides")
"""Arguments that make vLLM run a model that differs from the checkpoint's config.json."""
OTHER_MEMORY: Final = (
    "cpu-offload-gb", "offload-backend", "offload-group-size", "decode-context-parallel-size",
    "prefill-context-parallel-size", "kv-cache-dtype-skip-layers", "num-gpu-blocks-override",
)  # fmt: skip
"""Arguments that change the memory of an accelerator in ways that are not computed here."""


def of(
    config: Manifest,
    accelerator: Accelerator,
    facts: Facts | None,
    *,
    tensor_field: str = "spec.accelerator.count",
) -> Demand:
    """Return the memory demand of an engine with this configuration.

    `tensor_field` is the field of the object that the tensor-parallel size follows from.
    """
    arguments: Mapping[str, Any] = config.get("engineArgs", {})
    model, speculation = config.get("model", {}), config.get("speculation", {})
    quantization, batching = config.get("quantization", {}), config.get("batching", {})
    adapters = config.get("adapters", {})
    known = facts or Facts()
    draft = speculation.get("draft")
    memory = accelerator.memory
    overridden = next((name for name in OTHER_MODEL if arguments.get(name)), None)
    kv_dtype = str(arguments.get("kv-cache-dtype") or quantization.get("kvCache") or "auto")
    return Demand(
        model=ModelFacts() if overridden else _concerning(known.model, model.get("uri")),
        draft=_concerning(known.draft, draft) if draft else None,
        split=Split(
            tensor=config.get("tensorParallel", 1),
            pipeline=config.get("pipelineParallel", 1),
            data=config.get("dataParallel", 1),
        ),
        memory=int(units.quantity(memory)) if memory else None,
        utilization=float(arguments.get("gpu-memory-utilization") or utilization(accelerator)),
        expert_parallel=bool(arguments.get("enable-expert-parallel")),
        fp8=quantization.get("method") == "fp8",
        draft_fp8=speculation.get("draftQuantization") == "fp8",
        kv_bytes=KV_BYTES.get(kv_dtype, 2),
        max_length=model.get("maxLength"),
        sliding_window=config.get("attention", {}).get("slidingWindow"),
        sequences=_number(arguments.get("max-num-seqs")) or batching.get("maxSequences"),
        batched_tokens=_number(arguments.get("max-num-batched-tokens"))
        or batching.get("maxBatchedTokens"),
        graphs=not arguments.get("enforce-eager"),
        mtp=speculation.get("method") == "mtp",
        adapter_slots=adapters.get("slots", 0),
        adapter_rank=adapters.get("rank"),
        accelerator=accelerator.name,
        kv_memory=_number(arguments.get("kv-cache-memory-bytes")),
        unchecked=overridden or next((name for name in OTHER_MEMORY if arguments.get(name)), None),
        tensor_field=tensor_field,
        single=devices.of(accelerator).single(accelerator) is not None,
    )


def utilization(accelerator: Accelerator) -> float:
    """Return the share of a device's memory that one engine uses."""
    if accelerator.memory_share is None:
        return UTILIZATION
    return round(UTILIZATION * units.share(accelerator.memory_share), 4)


def _concerning(facts: ModelFacts, uri: str | None) -> ModelFacts:
    return facts if facts.concerns(uri) else ModelFacts()


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
