"""Classes of vLLM's arguments in spec.engineArgs: refused, set by a field as well, or effective.

Every argument of the pinned vLLM is in OWNED, ENGINE or SERVER. A test fails for an argument without a class.
"""

from collections.abc import Mapping
from typing import Final

_ADAPTERS: Final = "Use spec.model.adapters."
_SPECULATION: Final = "Use spec.speculation."
_PARALLELISM: Final = "Use spec.parallelism."
_TOPOLOGY: Final = "Slipstream decides which processes run on which node. Leave it out."
_HTTP: Final = "It has no effect because Slipstream runs its own HTTP server. Leave it out."
_KEYS: Final = "Slipstream checks API keys itself. Use spec.routing.apiKeys."
_LOGS: Final = "Slipstream reads the logs to find the cause of a failure. Leave it out."
_BROWSERS: Final = "It has no effect because clients reach the router or Slipstream's HTTP server first. Leave it out."
_ROUTES: Final = "It serves routes of vLLM that Slipstream does not serve. Leave it out."
_WARNINGS: Final = (
    "It has no effect because Slipstream logs vLLM's warnings and errors only. Leave it out."
)
_METRICS: Final = "Scaling and status need vLLM's metrics as Slipstream sets them. Leave it out."
_IGNORED: Final = "vLLM ignores it. Leave it out."
_DEVICES: Final = (
    "It needs more devices than Slipstream requests. Leave it out, and use spec.parallelism."
)
_SOURCE: Final = (
    "It belongs to the model source, which the ServingProfile must allow. Use spec.model.uri."
)

OWNED: Final[Mapping[str, str]] = {
    "model": "Use spec.model.uri.",
    "served-model-name": "Use spec.model.name.",
    "max-model-len": "Use spec.model.maxLength.",
    "trust-remote-code": "Use spec.model.trustRemoteCode.",
    "hf-token": "Use spec.model.tokenSecret.",
    "revision": "Use spec.model.uri: hf://org/name@revision.",
    **dict.fromkeys(
        (
            "code-revision", "download-dir", "hf-config-path", "ignore-patterns", "tokenizer", "tokenizer-revision",
        ),
        _SOURCE,
    ),
    "quantization": "Use spec.quantization.method.",
    **dict.fromkeys(
        ("speculative-config", "spec-method", "spec-model", "spec-tokens"), _SPECULATION
    ),
    **dict.fromkeys(
        ("enable-lora", "lora-modules", "max-loras", "max-lora-rank", "default-mm-loras"),
        _ADAPTERS,
    ),
    **dict.fromkeys(
        ("tensor-parallel-size", "pipeline-parallel-size", "data-parallel-size"), _PARALLELISM
    ),
    **dict.fromkeys(
        (
            "api-server-count", "config", "data-parallel-address", "data-parallel-backend",
            "data-parallel-external-lb", "data-parallel-hybrid-lb", "data-parallel-multi-port-external-lb",
            "data-parallel-rank", "data-parallel-rpc-port", "data-parallel-size-local",
            "data-parallel-start-rank", "data-parallel-supervisor-port", "device-ids",
            "distributed-executor-backend", "dp-supervisor-probe-failure-threshold",
            "dp-supervisor-probe-interval-s", "dp-supervisor-probe-timeout-s", "elastic-ep-max-dp-size",
            "enable-elastic-ep", "headless",
            "master-addr", "master-port", "nnodes", "node-rank", "ray-workers-use-nsight", "worker-cls",
        ),
        _TOPOLOGY,
    ),
    **dict.fromkeys(
        (
            "disable-access-log-for-endpoints", "disable-fastapi-docs", "disable-uvicorn-access-log",
            "enable-offline-docs", "enable-ssl-refresh", "grpc", "grpc-port", "h11-max-header-count",
            "h11-max-incomplete-event-size", "host", "middleware", "port", "root-path", "ssl-ca-certs",
            "ssl-cert-reqs", "ssl-certfile", "ssl-ciphers", "ssl-keyfile", "uds", "uvicorn-log-level",
        ),
        _HTTP,
    ),
    **dict.fromkeys(("allow-credentials", "allowed-headers", "allowed-methods", "allowed-origins"), _BROWSERS),
    **dict.fromkeys(
        (
            "cohere-is-reasoning-model", "enable-fault-tolerance", "enable-nccl-comm-suspend",
            "enable-scale-out", "enable-server-load-tracking", "enable-sleep-mode",
            "enable-tokenizer-info-endpoint", "fault-tolerance-config", "profiler-config",
            "sleep-mode-offload-cudagraph", "sleep-preserve-parameter-names", "tokens-only",
            "weight-transfer-config",
        ),
        _ROUTES,
    ),
    **dict.fromkeys(
        (
            "aggregate-engine-logging", "cudagraph-metrics", "enable-log-deltas", "enable-log-outputs",
            "enable-log-requests", "enable-logging-iteration-details", "max-log-len",
        ),
        _WARNINGS,
    ),
    **dict.fromkeys(("custom-histogram-buckets", "disable-log-stats", "kv-cache-metrics"), _METRICS),
    **dict.fromkeys(("disable-cascade-attn", "max-parallel-loading-workers"), _IGNORED),
    "prefill-context-parallel-size": _DEVICES,
    "api-key": _KEYS,
    **dict.fromkeys(("log-config-file", "log-level", "logging-config"), _LOGS),
    "shutdown-timeout": "Slipstream drains the engine itself. Leave it out.",
}  # fmt: skip
"""Refused arguments -> remedy: Slipstream sets them, they would break its guarantees, or they have no effect here."""

SHARED: Final[Mapping[str, tuple[str, ...]]] = {
    "tool-call-parser": ("model", "tool_parser"),
    "reasoning-parser": ("model", "reasoning_parser"),
    "chat-template": ("model", "chat_template", "chat_template_from"),
    "kv-cache-dtype": ("quantization", "kv_cache"),
    "enable-prefix-caching": ("cache", "prefix"),
    **dict.fromkeys(("compilation-config", "enforce-eager"), ("cache", "compile")),
    "load-format": ("model", "load"),
    "hf-overrides": ("attention", "sliding_window"),
    "max-num-seqs": ("batching", "max_sequences"),
    "max-num-batched-tokens": ("batching", "max_batched_tokens"),
    "enable-chunked-prefill": ("batching", "chunked_prefill"),
    "scheduling-policy": ("batching", "policy"),
    "attention-backend": ("attention", "backend"),
    "structured-outputs-config": ("output", "schema_text", "regex", "grammar"),
    **dict.fromkeys(
        ("kv-transfer-config", "kv-offloading-size", "kv-offloading-backend"), ("cache", "offload")
    ),
}
"""Argument -> part of spec and its fields that set the same. Setting both is refused, otherwise the argument wins."""

FIELDS_NEEDED: Final[Mapping[str, tuple[str, str]]] = {
    **dict.fromkeys(
        (
            "enable-mixed-moe-lora-format", "enable-moe-shared-loras", "enable-tower-connector-lora",
            "fully-sharded-loras", "lora-dtype", "lora-target-modules", "max-cpu-loras", "max-lora-cls-labels",
            "specialize-active-lora",
        ),
        ("model", "adapters"),
    ),
    **dict.fromkeys(("disable-nccl-for-dp-synchronization", "dp-sync-interval"), ("parallelism", "data")),
}  # fmt: skip
"""Arguments that have no effect without a field of spec."""

ARGUMENTS_NEEDED: Final[Mapping[str, str]] = {
    "collect-detailed-traces": "otlp-traces-endpoint",
    "cohere-format": "tokenizer-mode",
    "cpu-offload-params": "cpu-offload-gb",
    **dict.fromkeys(
        ("cp-kv-cache-interleave-size", "dcp-comm-backend", "dcp-kv-cache-interleave-size", "dcp-q-replicate"),
        "decode-context-parallel-size",
    ),
    **dict.fromkeys(("dbo-decode-token-threshold", "dbo-prefill-token-threshold"), "enable-dbo"),
    **dict.fromkeys(("enable-ep-weight-filter", "expert-placement-strategy"), "enable-expert-parallel"),
    "eplb-config": "enable-eplb",
    "fingerprint-value": "fingerprint-mode",
    "kv-offloading-backend": "kv-offloading-size",
    "mamba-cache-philox-rounds": "enable-mamba-cache-stochastic-rounding",
    **dict.fromkeys(
        (
            "mm-encoder-fp8-scale-path", "mm-encoder-fp8-scale-save-margin", "mm-encoder-fp8-scale-save-path",
        ),
        "mm-encoder-attn-dtype",
    ),
    **dict.fromkeys(("numa-bind-cpus", "numa-bind-nodes"), "numa-bind"),
    **dict.fromkeys(("offload-num-in-group", "offload-params", "offload-prefetch-step"), "offload-group-size"),
    "reasoning-parser-plugin": "reasoning-parser",
    "replayssm-buffer-len": "use-replayssm",
    "tool-call-parser": "enable-auto-tool-choice",
    "tool-parser-plugin": "tool-call-parser",
    "video-pruning-method": "video-pruning-rate",
}  # fmt: skip
"""Arguments that have no effect without another argument."""

ENGINE: Final = frozenset(
    (
        "additional-config", "all2all-backend", "allow-deprecated-quantization", "allowed-local-media-path",
        "allowed-media-domains", "async-scheduling", "attention-backend", "attention-config",
        "aux-output-config", "block-size", "collect-detailed-traces", "compilation-config", "config-format",
        "convert", "cp-kv-cache-interleave-size", "cpu-distributed-timeout-seconds", "cpu-offload-gb",
        "cpu-offload-params", "cudagraph-capture-sizes", "dbo-decode-token-threshold",
        "dbo-prefill-token-threshold", "dcp-comm-backend", "dcp-kv-cache-interleave-size", "dcp-q-replicate",
        "decode-context-parallel-size", "diffusion-config", "disable-chunked-mm-input",
        "disable-custom-all-reduce", "disable-hybrid-kv-cache-manager", "disable-nccl-for-dp-synchronization",
        "disable-sliding-window", "distributed-timeout-seconds", "dp-sync-interval", "dtype",
        "ec-manager-config", "ec-transfer-config", "enable-batch-sharded-sampling", "enable-chunked-prefill",
        "enable-cumem-allocator", "enable-dbo", "enable-ep-weight-filter", "enable-eplb",
        "enable-expert-parallel", "enable-flashinfer-autotune", "enable-hc-sp",
        "enable-layerwise-nvtx-tracing", "enable-mamba-cache-stochastic-rounding",
        "enable-mamba-shared-prefix-checkpoint", "enable-mfu-metrics", "enable-mixed-moe-lora-format",
        "enable-mm-embeds", "enable-moe-shared-loras", "enable-prefix-caching", "enable-prompt-embeds",
        "enable-return-routed-experts", "enable-shm-tensor-arena", "enable-tower-connector-lora",
        "enable-trace-replay", "enforce-eager", "engram-config", "eplb-config", "expert-placement-strategy",
        "fail-on-environ-validation", "fully-sharded-loras", "gdn-prefill-backend", "generation-config",
        "gpu-memory-utilization", "hf-overrides", "interleave-mm-strings", "io-processor-plugin",
        "ir-op-priority", "jit-monitor-mode", "jit-monitor-verbose", "kda-decode-backend",
        "kda-prefill-backend", "kernel-config", "kv-cache-dtype", "kv-cache-dtype-skip-layers",
        "kv-cache-memory-bytes", "kv-cache-metrics-sample", "kv-events-config", "kv-offloading-backend",
        "kv-offloading-size", "kv-sharing-fast-prefill", "kv-transfer-config", "language-model-only",
        "limit-mm-per-prompt", "linear-backend", "load-format", "logits-processors", "logprobs-mode",
        "long-prefill-token-threshold", "long-prefill-token-threshold-adaptive", "lora-dtype",
        "lora-target-modules", "mamba-backend", "mamba-block-size", "mamba-cache-dtype", "mamba-cache-mode",
        "mamba-cache-philox-rounds", "mamba-ssm-cache-dtype", "mamba-ssu-algorithm", "max-cpu-loras",
        "max-cudagraph-capture-size", "max-logprobs", "max-lora-cls-labels", "max-num-active-seqs",
        "max-num-batched-tokens", "max-num-queued-reqs", "max-num-queued-tokens", "max-num-scheduled-tokens",
        "max-num-seqs", "media-io-kwargs", "mm-device-do-normalize", "mm-encoder-attn-backend",
        "mm-encoder-attn-dtype", "mm-encoder-fp8-scale-path", "mm-encoder-fp8-scale-save-margin",
        "mm-encoder-fp8-scale-save-path", "mm-encoder-only", "mm-encoder-tp-mode", "mm-hasher-algorithm",
        "mm-ipc-gpu-memory-gb", "mm-processor-cache-gb", "mm-processor-cache-type", "mm-processor-device",
        "mm-processor-kwargs", "mm-shm-cache-max-object-size-mb", "mm-tensor-ipc", "model-class-overrides",
        "model-impl", "model-loader-extra-config", "moe-backend", "num-gpu-blocks-override", "numa-bind",
        "numa-bind-cpus", "numa-bind-nodes", "offload-backend", "offload-group-size", "offload-num-in-group",
        "offload-params", "offload-prefetch-step", "optimization-level", "otlp-traces-endpoint",
        "override-generation-config", "per-request-spec-decode-metrics", "performance-mode", "pooler-config",
        "prefill-schedule-interval", "prefix-cache-retention-interval", "prefix-caching-hash-algo",
        "prefix-match-unit", "pt-load-map-location", "quantization-config", "reasoning-config",
        "reasoning-parser", "reasoning-parser-plugin", "renderer-num-workers", "replayssm-buffer-len",
        "return-sampling-mask", "runner", "safetensors-load-strategy", "safetensors-prefetch-block-size",
        "safetensors-prefetch-num-threads", "scheduler-cls", "scheduler-reserve-full-isl", "scheduling-policy",
        "seed", "show-hidden-metrics-for-version", "skip-mm-profiling", "skip-tokenizer-init",
        "sparse-indexer-topk-backend", "specialize-active-lora", "stream-interval",
        "structured-outputs-config", "swa-bounded-replay", "tokenizer-mode", "ubatch-size", "use-fp64-gumbel",
        "use-replayssm", "use-tqdm-on-load", "video-pruning-method", "video-pruning-rate", "watermark",
        "watermark-config", "worker-extension-cls",
    )
)  # fmt: skip
"""Arguments that vLLM's engine reads."""

SERVER: Final = frozenset(
    (
        "anthropic-disabled-thinking-effort", "chat-template", "chat-template-content-format", "cohere-format",
        "default-chat-template-kwargs", "enable-auto-tool-choice", "enable-flash-late-interaction",
        "enable-force-include-usage", "enable-per-request-metrics", "enable-prompt-tokens-details",
        "enable-request-id-headers", "exclude-tools-when-tool-choice-none", "fingerprint-mode",
        "fingerprint-value", "log-error-stack", "response-role", "return-tokens-as-token-ids",
        "sse-keep-alive-interval", "tool-call-parser", "tool-parser-plugin", "tool-server",
        "tool-strict-level", "trust-request-chat-template", "trust-request-mm-kwargs",
    )
)  # fmt: skip
"""Arguments that vLLM's handlers of requests read."""
