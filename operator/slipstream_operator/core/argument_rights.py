"""Arguments of spec.engineArgs that reach further than the service's own requests. The ServingProfile must allow them.

Every argument that services can set is either GUARDED, or is in CONDITIONAL with the values that need a right, or is
in HARMLESS. A test fails for an argument without a judgment.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

_LOADS: Final = "loads code"
_CONNECTS: Final = "opens connections"
_FILES: Final = "reads or writes files of the container"

GUARDED: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        (
            "ec-manager-config", "ec-transfer-config", "io-processor-plugin", "kv-transfer-config", "logits-processors",
            "model-class-overrides", "reasoning-parser-plugin", "scheduler-cls", "tool-parser-plugin",
            "worker-extension-cls",
        ),
        _LOADS,
    ),
    "allowed-local-media-path": "lets requests read files of the container",
    **dict.fromkeys(("mm-encoder-fp8-scale-path", "mm-encoder-fp8-scale-save-path"), _FILES),
    **dict.fromkeys(
        ("allowed-media-domains", "trust-request-mm-kwargs"), "lets requests make engines fetch from other servers"
    ),
    **dict.fromkeys(
        ("enable-mm-embeds", "enable-prompt-embeds"), "lets requests send serialized tensors, which can crash engines"
    ),
    **dict.fromkeys(
        ("kv-events-config", "model-loader-extra-config", "otlp-traces-endpoint", "tool-server"), _CONNECTS
    ),
    "trust-request-chat-template": "runs templates that requests send",
}  # fmt: skip
"""Argument -> effect of all of its values."""


def effect(name: str, value: object) -> str | None:
    """Return what the argument does beyond the service's own requests; None if nothing."""
    if name in GUARDED:
        return GUARDED[name]
    judge = CONDITIONAL.get(name)
    return judge(str(value)) if judge is not None else None


def _compilation(text: str) -> str | None:
    options = _options(text)
    if "." in str(options.get("backend", "")):
        return _LOADS
    if options.keys() & {"inductor_passes", "inductor_compile_config", "custom_passes"}:
        return _LOADS
    return _FILES if options.keys() & {"cache_dir", "debug_dump_path"} else None


def _structured_outputs(text: str) -> str | None:
    return _LOADS if _options(text).get("reasoning_parser_plugin") else None


def _overrides(text: str) -> str | None:
    """Judge values of the model's config.json: a path or repository would be loaded past sources.allow."""
    values = list(_leaves(_options(text)))
    names = any(key == "auto_map" or "/" in value or "--" in value for key, value in values)
    return "can name other repositories" if names else None


def _generation(text: str) -> str | None:
    return None if text in ("auto", "vllm") else "can name other repositories and directories"


def _template(text: str) -> str | None:
    return _FILES if "{" not in text and "/" in text else None


def _load_format(text: str) -> str | None:
    return _CONNECTS if text in ("ipc_cache", "modelexpress", "tensorizer") else None


def _offloading(text: str) -> str | None:
    return _CONNECTS if text == "lmcache" else None


def _hash(text: str) -> str | None:
    return "lets requests find prompts with equal hashes" if text.startswith("xxhash") else None


CONDITIONAL: Final[Mapping[str, Callable[[str], str | None]]] = {
    "chat-template": _template,
    "compilation-config": _compilation,
    "generation-config": _generation,
    "hf-overrides": _overrides,
    "kv-offloading-backend": _offloading,
    "load-format": _load_format,
    "prefix-caching-hash-algo": _hash,
    "structured-outputs-config": _structured_outputs,
}
"""Argument -> judge of its value, which returns the effect."""

HARMLESS: Final = frozenset(
    (
        "additional-config", "all2all-backend", "allow-deprecated-quantization",
        "anthropic-disabled-thinking-effort", "async-scheduling", "attention-backend", "attention-config",
        "aux-output-config", "block-size", "chat-template-content-format", "cohere-format",
        "collect-detailed-traces", "config-format", "convert", "cp-kv-cache-interleave-size",
        "cpu-distributed-timeout-seconds", "cpu-offload-gb", "cpu-offload-params", "cudagraph-capture-sizes",
        "dbo-decode-token-threshold", "dbo-prefill-token-threshold", "dcp-comm-backend",
        "dcp-kv-cache-interleave-size", "dcp-q-replicate", "decode-context-parallel-size",
        "default-chat-template-kwargs", "diffusion-config", "disable-chunked-mm-input", "disable-custom-all-reduce",
        "disable-hybrid-kv-cache-manager", "disable-nccl-for-dp-synchronization", "disable-sliding-window",
        "distributed-timeout-seconds", "dp-sync-interval", "dtype", "enable-auto-tool-choice",
        "enable-batch-sharded-sampling", "enable-chunked-prefill", "enable-cumem-allocator", "enable-dbo",
        "enable-ep-weight-filter", "enable-eplb", "enable-expert-parallel", "enable-flash-late-interaction",
        "enable-flashinfer-autotune", "enable-force-include-usage", "enable-hc-sp", "enable-layerwise-nvtx-tracing",
        "enable-mamba-cache-stochastic-rounding", "enable-mamba-shared-prefix-checkpoint", "enable-mfu-metrics",
        "enable-mixed-moe-lora-format", "enable-moe-shared-loras", "enable-per-request-metrics",
        "enable-prefix-caching", "enable-prompt-tokens-details", "enable-request-id-headers",
        "enable-return-routed-experts", "enable-shm-tensor-arena", "enable-tower-connector-lora",
        "enable-trace-replay", "enforce-eager", "engram-config", "eplb-config",
        "exclude-tools-when-tool-choice-none", "expert-placement-strategy", "fail-on-environ-validation",
        "fingerprint-mode", "fingerprint-value", "fully-sharded-loras", "gdn-prefill-backend",
        "gpu-memory-utilization", "interleave-mm-strings", "ir-op-priority", "jit-monitor-mode",
        "jit-monitor-verbose", "kda-decode-backend", "kda-prefill-backend", "kernel-config", "kv-cache-dtype",
        "kv-cache-dtype-skip-layers", "kv-cache-memory-bytes", "kv-cache-metrics-sample", "kv-offloading-size",
        "kv-sharing-fast-prefill", "language-model-only", "limit-mm-per-prompt", "linear-backend",
        "log-error-stack", "logprobs-mode", "long-prefill-token-threshold", "long-prefill-token-threshold-adaptive",
        "lora-dtype", "lora-target-modules", "mamba-backend", "mamba-block-size", "mamba-cache-dtype",
        "mamba-cache-mode", "mamba-cache-philox-rounds", "mamba-ssm-cache-dtype", "mamba-ssu-algorithm",
        "max-cpu-loras", "max-cudagraph-capture-size", "max-logprobs", "max-lora-cls-labels", "max-num-active-seqs",
        "max-num-batched-tokens", "max-num-queued-reqs", "max-num-queued-tokens", "max-num-scheduled-tokens",
        "max-num-seqs", "media-io-kwargs", "mm-device-do-normalize", "mm-encoder-attn-backend",
        "mm-encoder-attn-dtype", "mm-encoder-fp8-scale-save-margin", "mm-encoder-only", "mm-encoder-tp-mode",
        "mm-hasher-algorithm", "mm-ipc-gpu-memory-gb", "mm-processor-cache-gb", "mm-processor-cache-type",
        "mm-processor-device", "mm-processor-kwargs", "mm-shm-cache-max-object-size-mb", "mm-tensor-ipc",
        "model-impl", "moe-backend", "num-gpu-blocks-override", "numa-bind", "numa-bind-cpus", "numa-bind-nodes",
        "offload-backend", "offload-group-size", "offload-num-in-group", "offload-params", "offload-prefetch-step",
        "optimization-level", "override-generation-config", "per-request-spec-decode-metrics", "performance-mode",
        "pooler-config", "prefill-schedule-interval", "prefix-cache-retention-interval", "prefix-match-unit",
        "pt-load-map-location", "quantization-config", "reasoning-config", "reasoning-parser",
        "renderer-num-workers", "replayssm-buffer-len", "response-role", "return-sampling-mask",
        "return-tokens-as-token-ids", "runner", "safetensors-load-strategy", "safetensors-prefetch-block-size",
        "safetensors-prefetch-num-threads", "scheduler-reserve-full-isl", "scheduling-policy", "seed",
        "show-hidden-metrics-for-version", "skip-mm-profiling", "skip-tokenizer-init",
        "sparse-indexer-topk-backend", "specialize-active-lora", "sse-keep-alive-interval", "stream-interval",
        "swa-bounded-replay", "tokenizer-mode", "tool-call-parser", "tool-strict-level", "ubatch-size",
        "use-fp64-gumbel", "use-replayssm", "use-tqdm-on-load", "video-pruning-method", "video-pruning-rate",
        "watermark", "watermark-config",
    )
)  # fmt: skip
"""Arguments that change only how the engine computes, or how it answers the service's own requests. Names in them are
those of vLLM's registries, and never of modules, files or servers."""


def _options(text: str) -> dict[str, Any]:
    """Return the options of a JSON text; empty for other texts, which vLLM refuses."""
    try:
        options = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return options if isinstance(options, dict) else {}


def _leaves(value: object, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield every value in a nested JSON value as text, with its closest key."""
    if isinstance(value, dict):
        for inner, part in value.items():
            yield inner, ""
            yield from _leaves(part, inner)
    elif isinstance(value, list):
        for part in value:
            yield from _leaves(part, key)
    else:
        yield key, str(value)
