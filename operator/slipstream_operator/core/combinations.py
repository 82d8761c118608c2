"""Combinations of settings that the pinned vLLM refuses at start, or that can't work in these pods.

Each row follows a check in vLLM's code. Checks that depend on the model's files or on the node are left to the engine.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from slipstream_operator.api.engine import BatchingSpec, QuantizationSpec
from slipstream_operator.api.inferenceservice import InferenceServiceSpec
from slipstream_operator.core.devices import CUDA, Device, Feature
from slipstream_operator.core.engine_arguments import Value
from slipstream_operator.core.parallelism import Split
from slipstream_operator.errors import PermanentError
from slipstream_operator.names import Reason

DRAFT_MODEL: Final = "draft_model"


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings that the rows check, from fields and from engine arguments. None leaves the choice to vLLM."""

    device: Device = CUDA
    own_image: bool = False
    ways: int = 1
    """Accelerators of one replica."""
    stages: int = 1
    """Stages of the pipeline."""
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
    """Method of speculation."""
    tokens: int = 0
    adapter_slots: int = 0
    tool_parser: bool = False
    """Whether spec.model names a parser of tool calls."""
    arguments: Mapping[str, Value] = dataclasses.field(default_factory=dict)

    def number(self, argument: str) -> int | None:
        """Return the value of an engine argument that is an integer; None if it is not set."""
        value = self.arguments.get(argument)
        return value if isinstance(value, int) else None

    def is_set(self, argument: str) -> bool:
        """Whether an engine argument is set and not false."""
        return bool(self.arguments.get(argument))


class Row(NamedTuple):
    """Combination that can't work, and its refusal, which is formatted with `settings` and `reason`."""

    matches: Callable[[Settings], bool]
    message: str
    needs: Feature | None = None
    """Feature of the device; the row matches only where it is lacking, and `reason` says why."""

    def refusal(self, settings: Settings) -> str | None:
        """Return the message if the settings can't work."""
        reason = settings.device.lacks.get(self.needs) if self.needs else None
        if (self.needs is not None and reason is None) or not self.matches(settings):
            return None
        backends = ", ".join(settings.device.backends)
        return self.message.format(settings=settings, reason=reason, backends=backends)


def _below(small: int | None, large: int | None) -> bool:
    """Whether both numbers are known and the first is less than the second."""
    return small is not None and large is not None and small < large


TABLE: Final[tuple[Row, ...]] = (
    Row(
        lambda settings: _below(settings.max_batched_tokens, settings.max_sequences),
        "spec.batching.maxBatchedTokens: {settings.max_batched_tokens} can't be less than maxSequences "
        "({settings.max_sequences}) because each running sequence takes one token of a step. Raise maxBatchedTokens, "
        "or lower maxSequences.",
    ),
    Row(
        lambda settings: (
            not settings.chunked_prefill
            and _below(settings.max_batched_tokens, settings.max_length)
        ),
        "spec.batching.chunkedPrefill: false needs a maxBatchedTokens ({settings.max_batched_tokens}) of at least "
        "spec.model.maxLength ({settings.max_length}) because each prompt is then one step. Raise maxBatchedTokens, "
        "lower maxLength, or leave out chunkedPrefill.",
    ),
    Row(
        lambda settings: (
            settings.adapter_slots > 0
            and settings.method is not None
            and settings.max_sequences is not None
            and _below(settings.max_batched_tokens, settings.max_sequences * (settings.tokens + 1))
        ),
        "spec.speculation.tokens: {settings.tokens} with spec.model.adapters needs a batching.maxBatchedTokens "
        "({settings.max_batched_tokens}) of at least maxSequences x (tokens + 1). Raise maxBatchedTokens, or lower "
        "tokens.",
    ),
    Row(
        lambda settings: settings.kv_cache.startswith("fp8"),
        'spec.quantization.kvCache: "{settings.kv_cache}" can\'t work because {reason}. Leave it out, or use a GPU.',
        needs=Feature.FP8_KV_CACHE,
    ),
    Row(
        lambda settings: settings.quantization == "nvfp4",
        'spec.quantization.method: "nvfp4" can\'t work because {reason}. Use a checkpoint in int8 or int4, or a GPU.',
        needs=Feature.NVFP4,
    ),
    Row(
        lambda settings: settings.method == "suffix" and not settings.own_image,
        'spec.speculation.method: "suffix" needs arctic-inference, which the default images lack because it is '
        "published only as source for another version of torch. Use ngram, or set spec.template.image to an image "
        "that has it.",
    ),
    Row(
        lambda settings: settings.method == "suffix" and settings.stages > 1,
        'spec.speculation.method: "suffix" does not work with spec.parallelism.pipeline. Use ngram, or use tensor in '
        "place of pipeline.",
    ),
    Row(
        lambda settings: settings.ways != settings.nodes,
        "spec.parallelism: {settings.ways} ways can't work because {reason}. Leave "
        "parallelism out and give the engine cores by accelerator.count, or set nodes to tensor x pipeline.",
        needs=Feature.SPLIT,
    ),
    Row(
        lambda settings: (
            settings.backend is not None
            and bool(settings.device.backends)
            and settings.backend not in settings.device.backends
        ),
        'spec.attention.backend: "{settings.backend}" does not run on {settings.device.title}, where vLLM would '
        "ignore it. Leave it out, or use one of {backends}.",
    ),
    Row(
        lambda settings: (
            settings.method in ("ngram", "suffix") and settings.is_set("async-scheduling")
        ),
        "spec.engineArgs.async-scheduling: true does not work with spec.speculation.method {settings.method}. "
        "Leave it out, or use a draft model.",
    ),
    Row(
        lambda settings: settings.method is not None and settings.is_set("logits-processors"),
        "spec.engineArgs.logits-processors: does not work with spec.speculation. Leave out one of them.",
    ),
    Row(
        lambda settings: (
            settings.is_set("kv-offloading-size")
            and settings.arguments.get("kv-offloading-backend") != "lmcache"
        ),
        "spec.engineArgs.kv-offloading-size: can't work because {reason}. Leave it out.",
        needs=Feature.OFFLOAD,
    ),
    Row(
        lambda settings: settings.is_set("enable-eplb"),
        "spec.engineArgs.enable-eplb: true can't work because {reason}. Leave it out.",
        needs=Feature.EXPERT_BALANCING,
    ),
    Row(
        lambda settings: (
            settings.is_set("enable-eplb") and not settings.is_set("enable-expert-parallel")
        ),
        "spec.engineArgs.enable-eplb: true needs enable-expert-parallel: true. Set both, or neither.",
    ),
    Row(
        lambda settings: (
            settings.is_set("enable-eplb")
            and Feature.EXPERT_BALANCING not in settings.device.lacks
            and settings.ways == 1
        ),
        "spec.engineArgs.enable-eplb: true needs more than one accelerator. Raise accelerator.count, or leave it out.",
    ),
    Row(
        lambda settings: (
            settings.is_set("enable-auto-tool-choice")
            and not settings.is_set("tool-call-parser")
            and not settings.tool_parser
        ),
        "spec.engineArgs.enable-auto-tool-choice: true needs a parser. Leave it out and set spec.model.toolParser "
        "to the parser of the model's format, such as hermes. It sets both.",
    ),
    Row(
        lambda settings: _below(settings.max_sequences, settings.number("max-num-active-seqs")),
        "spec.engineArgs.max-num-active-seqs: can't be more than maxSequences ({settings.max_sequences}). Lower it.",
    ),
    Row(
        lambda settings: _below(
            settings.max_length, settings.number("long-prefill-token-threshold")
        ),
        "spec.engineArgs.long-prefill-token-threshold: can't be more than spec.model.maxLength "
        "({settings.max_length}). Lower it.",
    ),
    Row(
        lambda settings: 0 < (settings.number("max-cpu-loras") or 0) < settings.adapter_slots,
        "spec.engineArgs.max-cpu-loras: can't be less than the {settings.adapter_slots} adapter slots of "
        "spec.model.adapters. Raise it, or leave it out.",
    ),
)


def settings(
    spec: InferenceServiceSpec,
    *,
    device: Device,
    split: Split,
    adapter_slots: int,
    arguments: Mapping[str, Value],
) -> Settings:
    """Return the settings of the service. An engine argument counts like the field that sets the same."""
    batching = spec.batching or BatchingSpec()
    speculation = spec.speculation
    method = None
    if speculation is not None:
        method = speculation.method or DRAFT_MODEL
    plain = Settings(arguments=arguments)
    backend = spec.attention.backend if spec.attention else None
    return Settings(
        device=device,
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
        tool_parser=spec.model is not None and spec.model.tool_parser not in (None, "auto", "none"),
        arguments=arguments,
    )


def check(settings: Settings) -> None:
    """Raise PermanentError with the message of every row that matches."""
    refusals = [row.refusal(settings) for row in TABLE]
    problems = [message for message in refusals if message is not None]
    if problems:
        raise PermanentError(Reason.UNSUPPORTED, " ".join(problems))
