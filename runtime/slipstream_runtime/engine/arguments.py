"""Translation of EngineConfig into vLLM's arguments; no other module knows both.

Pure: paths and hardware are arguments, so every combination has a golden test.
"""

import dataclasses
import json
from collections.abc import Container, Sequence, Set
from pathlib import Path
from typing import Final

from slipstream_runtime import contract
from slipstream_runtime.engine import chat_templates, families
from slipstream_runtime.engine.checkpoint import Checkpoint
from slipstream_runtime.engine.config import AUTO, NONE, EngineConfig
from slipstream_runtime.engine.group import Member
from slipstream_runtime.errors import UnsuitableError
from slipstream_runtime.machine import hardware

_SHUTDOWN_SECONDS: Final = {"cuda": 3, "cpu": 1}
"""Device -> seconds that vLLM gives its idle engine core to end before it kills it. On CPU all resources are free
within a second; the two seconds of Python's own clean-up that follow are not worth waiting for."""
_ADA: Final = (8, 9)
"""First compute capability with fp8 tensor cores."""
_FULL_GRAPHS: Final = {"cudagraph_mode": "FULL_DECODE_ONLY", "mode": 0}
"""CompilationConfig without torch.compile: only CUDA graphs of complete decode steps need no compiler."""
_BUCKETS: Final = {"inter_token_latency": contract.LATENCY_BUCKETS[contract.TPOT]}
"""vLLM's group of histograms -> upper bounds in seconds; vLLM's own start at 10 ms per output token."""
_REFINING: Final = ("--custom-histogram-buckets",)
"""Arguments with a value that vLLM has since 0.32, and without which it only measures less finely."""
_LOAD_FORMAT: Final = {"auto": None, "streamed": "runai_streamer"}
"""Value of `load` -> vLLM's load format; None leaves vLLM's default."""
MEDIA_DOMAINS: Final = "allowed-media-domains"
_NO_DOMAIN: Final = "media.invalid"
"""Domain that doesn't exist (RFC 2606): without one, vLLM fetches media from every address that a request names."""

_WORKER: Final = "slipstream_runtime.engine.worker.CPUWorker"


@dataclasses.dataclass(frozen=True)
class Weights:
    """Model in a local folder, and its quantization."""

    folder: Path
    checkpoint: Checkpoint
    template: str = ""
    """Chat templates of the model's folder."""


def supported(words: Sequence[str], known: Container[str]) -> list[str]:
    """Return the words without those that only refine metrics and that an older vLLM does not know."""
    found = list(words)
    for name in _REFINING:
        if name in found and name not in known:
            at = found.index(name)
            del found[at : at + 2]
    return found


def build(
    config: EngineConfig,
    *,
    target: Weights,
    draft: Weights | None,
    cpu_flags: Set[str],
    capability: tuple[int, int] | None = None,
    adapter_rank: int | None = None,
    member: Member | None = None,
) -> list[str]:
    """Return the arguments of vLLM's API server; `capability` is the GPU's compute capability, None if unknown."""
    batching, cache = config.batching, config.cache
    table: tuple[tuple[str, object], ...] = (
        ("--model", target.folder),
        ("--served-model-name", config.model.name),
        ("--max-model-len", config.model.max_length),
        ("--load-format", _LOAD_FORMAT[config.load]),
        ("--trust-remote-code", True if config.model.trust_remote_code else None),
        ("--dtype", _unless(_dtype(config, target, cpu_flags=cpu_flags), default="auto")),
        ("--quantization", _quantization(config, target, capability=capability)),
        ("--kv-cache-dtype", _kv_dtype(config, cpu_flags=cpu_flags)),
        ("--kv-cache-memory-bytes", cache.kv_bytes),
        ("--gpu-memory-utilization", cache.gpu_memory_utilization),
        ("--kv-transfer-config", _offload(config)),
        # NB: if it is on, vLLM decides by model; forced caching crashes vLLM for models that don't support it.
        ("--enable-prefix-caching", _only_off(cache.prefix)),
        # Time that blocks were idle before their eviction, which shows whether the KV cache is too small.
        ("--kv-cache-metrics", True),
        ("--custom-histogram-buckets", json.dumps(_BUCKETS)),
        ("--enforce-eager", None if cache.compile or config.device == "cuda" else True),
        (
            "--compilation-config",
            None if cache.compile or config.device == "cpu" else json.dumps(_FULL_GRAPHS),
        ),
        ("--tensor-parallel-size", _several(config.tensor_parallel)),
        ("--pipeline-parallel-size", _several(config.pipeline_parallel)),
        ("--data-parallel-size", _several(config.data_parallel)),
        ("--distributed-executor-backend", "uni" if config.single else "mp"),
        ("--nnodes", member and member.size),
        ("--node-rank", member and member.rank),
        ("--master-addr", member and member.leader),
        ("--master-port", member and contract.GROUP_PORT),
        ("--max-num-seqs", batching.max_sequences),
        ("--max-num-batched-tokens", batching.max_batched_tokens),
        ("--enable-chunked-prefill", _only_off(batching.chunked_prefill)),
        ("--scheduling-policy", _unless(batching.policy, default="fcfs")),
        ("--attention-backend", config.attention.backend),
        ("--hf-overrides", _overrides(config, target)),
        ("--speculative-config", _speculation(config, draft, capability=capability)),
        ("--structured-outputs-config", _structured_outputs(config)),
        *_chat(config, target),
        ("--enable-lora", True if config.adapters else None),
        ("--max-loras", config.adapters.slots if config.adapters else None),
        ("--max-lora-rank", adapter_rank if config.adapters else None),
        ("--worker-cls", _WORKER if config.device == "cpu" else None),
        ("--shutdown-timeout", _SHUTDOWN_SECONDS[config.device]),
        (f"--{MEDIA_DOMAINS}", _NO_DOMAIN),
        ("--disable-fastapi-docs", True),
        ("--use-tqdm-on-load", False),
    )
    return [
        *(
            word
            for flag, value in table
            if flag.removeprefix("--") not in config.engine_args
            for word in _words(flag, value)
        ),
        *(
            word
            for name, value in sorted(config.engine_args.items())
            for word in _own_words(f"--{name}", value)
        ),
    ]


def _words(flag: str, value: object) -> list[str]:
    match value:
        case None:
            return []
        case True:
            return [flag]
        case False:
            return [flag.replace("--", "--no-", 1)]
        case _:
            return [flag, str(value)]


def _own_words(flag: str, value: object) -> list[str]:
    """Return a user's argument as one word, so that its value can't be taken for a flag; lists need several."""
    match value:
        case bool():
            return _words(flag, value)
        case list():
            return [flag, *map(str, value)]
        case _:
            return [f"{flag}={value}"]


def _only_off(on: bool) -> bool | None:
    """Return False if it is off, else None, which leaves the choice to vLLM."""
    return None if on else False


def _unless(value: str, *, default: str) -> str | None:
    """Return the value; None if it is the default of vLLM."""
    return None if value == default else value


def _several(size: int) -> int | None:
    return size if size > 1 else None


def _overrides(config: EngineConfig, target: Weights) -> str | None:
    """Return the overrides of values in the checkpoint's config.json."""
    window = config.attention.sliding_window
    if window is None:
        return None
    replaced: dict[str, object] = {"sliding_window": window}
    nested = target.checkpoint.window == "text_config"
    return json.dumps({"text_config": replaced} if nested else replaced)


def _dtype(config: EngineConfig, weights: Weights, *, cpu_flags: Set[str]) -> str:
    if config.dtype != "auto" or config.device == "cuda":
        return config.dtype
    speculation = config.speculation
    wanted = (config.quantization.method, speculation and speculation.draft_quantization)
    if weights.checkpoint.quantized or "fp8" in wanted:
        # NB: fp8, AWQ and GPTQ refuse float32 activations; `auto` would keep those of a float32 checkpoint.
        return "bfloat16"
    return "auto" if hardware.computes_bfloat16(cpu_flags) else "float32"


def _quantization(
    config: EngineConfig, weights: Weights, *, capability: tuple[int, int] | None
) -> str | None:
    """Return the method that quantizes at load; vLLM itself reads the method of a quantized checkpoint."""
    if config.quantization.method == "fp8" and not weights.checkpoint.quantized:
        return _online_fp8(capability)
    return None


def _online_fp8(capability: tuple[int, int] | None) -> str:
    """Return vLLM's method to quantize bf16 weights to fp8 at load.

    One scale for each output channel and each token is CUTLASS's on GPUs and oneDNN's on CPUs, and needs no compiler.
    Scales for blocks would take DeepGEMM on Hopper and Blackwell, which nvcc compiles at start. GPUs before Ada only
    have Marlin, which multiplies in 16 bits, and which vLLM refuses for scales of channels.
    """
    return "fp8_per_tensor" if capability is not None and capability < _ADA else "fp8_per_channel"


def _kv_dtype(config: EngineConfig, *, cpu_flags: Set[str]) -> str | None:
    if config.quantization.kv_cache == "auto":
        return None
    if config.device == "cpu" and not hardware.holds_fp8_kv(cpu_flags):
        raise UnsuitableError(
            'spec.quantization.kvCache: "fp8" needs AVX-512 or AMX, which this CPU lacks. '
            "Leave it out, or use other nodes."
        )
    return config.quantization.kv_cache


def _offload(config: EngineConfig) -> str | None:
    """Return vLLM's own connector to host memory, and to disk behind it, if blocks are kept there."""
    cache = config.cache
    if cache.offload_bytes is None:
        return None
    extra: dict[str, object] = {"cpu_bytes_to_use": cache.offload_bytes}
    if cache.offload_disk_bytes is not None:
        extra["spec_name"] = "TieringOffloadingSpec"
        extra["secondary_tiers"] = [{"type": "fs", "root_dir": contract.OFFLOAD_DIRECTORY}]
    wanted = {
        "kv_connector": "OffloadingConnector",
        "kv_role": "kv_both",
        "kv_connector_extra_config": extra,
    }
    return json.dumps(wanted, sort_keys=True)


def _speculation(
    config: EngineConfig, draft: Weights | None, *, capability: tuple[int, int] | None
) -> str | None:
    speculation = config.speculation
    if speculation is None:
        return None
    wanted: dict[str, object] = {
        "num_speculative_tokens": speculation.tokens,
        "method": speculation.method or "draft_model",
    }
    if draft is not None:
        wanted["model"] = str(draft.folder)
        if speculation.draft_quantization == "fp8" and not draft.checkpoint.quantized:
            wanted["quantization"] = _online_fp8(capability)
        if config.tensor_parallel > 1:
            wanted["draft_tensor_parallel_size"] = config.tensor_parallel
    if speculation.method == "ngram":
        wanted |= {"prompt_lookup_max": 4, "prompt_lookup_min": 2}
    return json.dumps(wanted, sort_keys=True)


def _chat(config: EngineConfig, target: Weights) -> tuple[tuple[str, object], ...]:
    """Return the arguments of the form of chats: its template, and the parsers of tool calls and reasoning."""
    named, template = config.engine_args, target.template
    if chat_templates.is_inline(config.model):
        template = str(config.model.chat_template)
    tools = reasoning = None
    if "tool-call-parser" not in named:
        tools = _parser(config.model.tool_parser, families.TOOLS, target, template=template)
    if config.output is None or config.output.structure is None or _chosen(config):
        # NB: vLLM applies a structure only behind the reasoning, so a parser would leave the answer's begin free.
        reasoning = _parser(
            config.model.reasoning_parser, families.REASONING, target, template=template
        )
    return (
        ("--chat-template", chat_templates.argument(config.model, target.folder)),
        ("--tool-call-parser", tools),
        ("--enable-auto-tool-choice", True if tools is not None else None),
        ("--reasoning-parser", reasoning),
    )


def _chosen(config: EngineConfig) -> bool:
    return config.model.reasoning_parser != AUTO


def _parser(
    wanted: str, known: tuple[families.Family, ...], target: Weights, *, template: str
) -> str | None:
    """Return the parser: the one that is wanted, or that of the model's family; None for none."""
    if wanted != AUTO:
        return None if wanted == NONE else wanted
    architectures = target.checkpoint.architectures
    return families.parser(known, architectures=architectures, template=template)


def _structured_outputs(config: EngineConfig) -> str | None:
    if config.output is None or config.output.structure is None:
        return None
    # NB: if white space is allowed anywhere, a model may generate only white space until its tokens are used up.
    return json.dumps({"backend": "xgrammar", "disable_any_whitespace": True}, sort_keys=True)
