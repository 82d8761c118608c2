"""Combinations of settings that the pinned vLLM, or the way in which it is run here, refuses at start.

Each row was read in vLLM's own checks. What depends on the model's files or on the node is not here: the engine tells
that, before it loads or by its first request.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from slipstream_operator.api.engine import BatchingSpec, QuantizationSpec
from slipstream_operator.api.inferenceservice import InferenceServiceSpec
from slipstream_operator.core.engine_arguments import Value
from slipstream_operator.core.parallelism import Split
from slipstream_operator.errors import PermanentError
from slipstream_operator.names import Reason

DRAFT_MODEL: Final = "draft_model"
CPU_BACKENDS: Final = ("CPU_ATTN", "CPU_MLA", "AMX_MLA")


@dataclasses.dataclass(frozen=True)
class Asked:
    """Settings that the rows check, whether fields or arguments set them; None leaves the choice to vLLM."""

    on_cpu: bool = False
    own_image: bool = False
    ways: int = 1
    """Accelerators of one replica."""
    stages: int = 1
    """Of the pipeline."""
    nodes: int = 1
    """Pods of one replica."""
    max_length: int | None = None
    max_sequences: int | None = None
    max_batched_tokens: int | None = None
    chunked_prefill: bool = True
    quantization: str = "auto"
    kv_cache: str = "auto"
    backend: str | None = None
    method: str | None = None
    """Of speculation."""
    tokens: int = 0
    adapter_slots: int = 0
    arguments: Mapping[str, Value] = dataclasses.field(default_factory=dict)

    def number(self, argument: str) -> int | None:
        """An engine argument that is an integer, if it was given."""
        value = self.arguments.get(argument)
        return value if isinstance(value, int) else None

    def is_set(self, argument: str) -> bool:
        """Whether an engine argument was given and is not off."""
        return bool(self.arguments.get(argument))


class Row(NamedTuple):
    """A combination, and what to say about it; the message is formatted with `asked`."""

    matches: Callable[[Asked], bool]
    message: str


def _below(small: int | None, large: int | None) -> bool:
    """Whether both are known, and the first is less."""
    return small is not None and large is not None and small < large


TABLE: Final[tuple[Row, ...]] = (
    Row(
        lambda asked: _below(asked.max_batched_tokens, asked.max_sequences),
        "spec.batching.maxBatchedTokens: {asked.max_batched_tokens} is less than maxSequences "
        "({asked.max_sequences}), and each running sequence takes a token of a step: raise it, or lower maxSequences",
    ),
    Row(
        lambda asked: (
            not asked.chunked_prefill and _below(asked.max_batched_tokens, asked.max_length)
        ),
        "spec.batching.chunkedPrefill: false needs maxBatchedTokens ({asked.max_batched_tokens}) of at least "
        "spec.model.maxLength ({asked.max_length}), since a prompt is then one step: raise it, lower maxLength, "
        "or leave chunkedPrefill on",
    ),
    Row(
        lambda asked: (
            asked.adapter_slots > 0
            and asked.method is not None
            and asked.max_sequences is not None
            and _below(asked.max_batched_tokens, asked.max_sequences * (asked.tokens + 1))
        ),
        "spec.speculation.tokens: {asked.tokens} with spec.model.adapters needs batching.maxBatchedTokens "
        "({asked.max_batched_tokens}) of at least maxSequences x (tokens + 1): raise it, or guess fewer tokens",
    ),
    Row(
        lambda asked: asked.on_cpu and asked.kv_cache.startswith("fp8"),
        'spec.quantization.kvCache: "{asked.kv_cache}" needs AVX-512 or AMX on type cpu, which nodes may lack: '
        "leave it out, or use a GPU",
    ),
    Row(
        lambda asked: asked.on_cpu and asked.quantization == "nvfp4",
        'spec.quantization.method: "nvfp4" does not run on type cpu, for which vLLM has no such kernel: use a '
        "checkpoint in int8 or int4, or a GPU",
    ),
    Row(
        lambda asked: asked.method == "suffix" and not asked.own_image,
        'spec.speculation.method: "suffix" needs arctic-inference, which the images lack, since it is only '
        "published as source for another torch: use ngram, or name an image that holds it in spec.template.image",
    ),
    Row(
        lambda asked: asked.method == "suffix" and asked.stages > 1,
        "spec.speculation.method: suffix does not work with spec.parallelism.pipeline: use ngram, or tensor",
    ),
    Row(
        lambda asked: asked.on_cpu and asked.ways != asked.nodes,
        "spec.parallelism: a pod on type cpu computes in one process, of which nothing is split: leave it out, and "
        "give it cores by accelerator.count, or set nodes to tensor x pipeline ({asked.ways})",
    ),
    Row(
        lambda asked: (
            asked.on_cpu and asked.backend is not None and asked.backend not in CPU_BACKENDS
        ),
        'spec.attention.backend: "{asked.backend}" does not run on type cpu, where vLLM would pass over it: '
        f"leave it out, or use one of {', '.join(CPU_BACKENDS)}",
    ),
    Row(
        lambda asked: asked.method in ("ngram", "suffix") and asked.is_set("async-scheduling"),
        "spec.engineArgs.async-scheduling: true does not work with spec.speculation.method {asked.method}: "
        "leave it out, or use a draft",
    ),
    Row(
        lambda asked: asked.method is not None and asked.is_set("logits-processors"),
        "spec.engineArgs.logits-processors: does not work with spec.speculation: leave out one of them",
    ),
    Row(
        lambda asked: asked.on_cpu and asked.is_set("enable-sleep-mode"),
        "spec.engineArgs.enable-sleep-mode: true does not work on type cpu: leave it out",
    ),
    Row(
        lambda asked: (
            asked.on_cpu
            and asked.is_set("kv-offloading-size")
            and asked.arguments.get("kv-offloading-backend") != "lmcache"
        ),
        "spec.engineArgs.kv-offloading-size: does not work on type cpu, whose KV cache lies in memory already: "
        "leave it out",
    ),
    Row(
        lambda asked: asked.on_cpu and asked.is_set("enable-eplb"),
        "spec.engineArgs.enable-eplb: true does not work on type cpu: leave it out",
    ),
    Row(
        lambda asked: asked.is_set("enable-eplb") and not asked.is_set("enable-expert-parallel"),
        "spec.engineArgs.enable-eplb: true needs enable-expert-parallel: true, too",
    ),
    Row(
        lambda asked: asked.is_set("enable-eplb") and not asked.on_cpu and asked.ways == 1,
        "spec.engineArgs.enable-eplb: true needs more than one accelerator: raise accelerator.count, or leave it out",
    ),
    Row(
        lambda asked: (
            asked.is_set("enable-auto-tool-choice") and not asked.is_set("tool-call-parser")
        ),
        "spec.engineArgs.enable-auto-tool-choice: true needs tool-call-parser: name the parser of the model's "
        "format, such as hermes",
    ),
    Row(
        lambda asked: (
            asked.is_set("enable-log-outputs") and not asked.is_set("enable-log-requests")
        ),
        "spec.engineArgs.enable-log-outputs: true needs enable-log-requests: true, too",
    ),
    Row(
        lambda asked: _below(asked.max_sequences, asked.number("max-num-active-seqs")),
        "spec.engineArgs.max-num-active-seqs: is more than maxSequences ({asked.max_sequences}): lower it",
    ),
    Row(
        lambda asked: _below(asked.max_length, asked.number("long-prefill-token-threshold")),
        "spec.engineArgs.long-prefill-token-threshold: is more than spec.model.maxLength ({asked.max_length}): "
        "lower it",
    ),
    Row(
        lambda asked: 0 < (asked.number("max-cpu-loras") or 0) < asked.adapter_slots,
        "spec.engineArgs.max-cpu-loras: is less than the {asked.adapter_slots} slots for spec.model.adapters: "
        "raise it, or leave it out",
    ),
)


def asked(
    spec: InferenceServiceSpec,
    *,
    on_cpu: bool,
    split: Split,
    adapter_slots: int,
    arguments: Mapping[str, Value],
) -> Asked:
    """Return the settings of the service; an engine argument counts like the field that sets the same."""
    batching = spec.batching or BatchingSpec()
    speculation = spec.speculation
    method = None
    if speculation is not None:
        method = speculation.method or DRAFT_MODEL
    plain = Asked(arguments=arguments)
    backend = spec.attention.backend if spec.attention else None
    return Asked(
        on_cpu=on_cpu,
        own_image=bool(spec.template and spec.template.image),
        ways=split.total,
        stages=split.pipeline,
        nodes=split.nodes,
        max_length=spec.model.max_length if spec.model else None,
        max_sequences=batching.max_sequences or plain.number("max-num-seqs"),
        max_batched_tokens=batching.max_batched_tokens or plain.number("max-num-batched-tokens"),
        chunked_prefill=bool(arguments.get("enable-chunked-prefill", batching.chunked_prefill)),
        quantization=spec.quantization.method if spec.quantization else "auto",
        kv_cache=str(
            arguments.get("kv-cache-dtype", (spec.quantization or QuantizationSpec()).kv_cache)
        ),
        backend=backend or str(arguments.get("attention-backend", "")) or None,
        method=method,
        tokens=speculation.tokens if speculation else 0,
        adapter_slots=adapter_slots,
        arguments=arguments,
    )


def check(asked: Asked) -> None:
    """PermanentError with the message of every row that matches."""
    wrong = [message.format(asked=asked) for matches, message in TABLE if matches(asked)]
    if wrong:
        raise PermanentError(Reason.UNSUPPORTED, "; ".join(wrong))
