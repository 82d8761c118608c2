"""Reading of a model's config.json, as vLLM 0.32 reads it.

A config that doesn't say enough gives None: unknown refuses nothing.
"""

from collections.abc import Mapping
from typing import Any, Final

from slipstream_operator.core.fit import model_types
from slipstream_operator.core.fit.architecture import (
    Architecture,
    Experts,
    Kind,
    LatentAttention,
    Layer,
    LinearAttention,
)
from slipstream_runtime import contract

MOST_LAYERS: Final = 1_000
LARGEST_SIZE: Final = 1_000_000_000
"""Numbers beyond these are no sizes of a model: such a config is malformed."""


def read(config: Mapping[str, Any] | None) -> Architecture | None:
    """Return the architecture; None if the config doesn't say enough. Never raises."""
    if not config:
        return None
    part = next((config[key] for key in contract.FACT_PARTS if _is_model(config.get(key))), config)
    try:
        return _read(part, whole=config)
    except (TypeError, ValueError, KeyError, AttributeError, ZeroDivisionError, OverflowError):
        return None


def _is_model(part: object) -> bool:
    return isinstance(part, Mapping) and ("hidden_size" in part or "num_hidden_layers" in part)


def _read(config: Mapping[str, Any], *, whole: Mapping[str, Any]) -> Architecture | None:
    model_type = str(config.get("model_type") or whole.get("model_type") or "")
    hidden = _number(config, "hidden_size", "n_embd")
    count = _number(config, "num_hidden_layers", "n_layer")
    heads = _number(config, "num_attention_heads", "n_head", "num_heads")
    vocabulary = _number(config, "vocab_size") or _number(whole, "vocab_size")
    if not (hidden and count and heads and vocabulary) or count > MOST_LAYERS:
        return None
    latent = _latent(config, model_type)
    kv_heads = 1 if latent else _kv_heads(config, heads)
    head_size = _number(config, "head_dim") or hidden // heads
    if not head_size:
        return None
    tied = config.get("tie_word_embeddings", whole.get("tie_word_embeddings"))
    linear = _linear(config)
    intermediate = _number(config, "intermediate_size", "n_inner", "ffn_hidden_size")
    if intermediate is None and model_type in model_types.UNGATED_TYPES:
        intermediate = 4 * hidden
    experts = _experts(config, model_type, count)
    encoder = model_type.endswith(model_types.WITHOUT_CACHE)  # without an output matrix, too
    layers = _layers(config, model_type, count, kv_heads, head_size, latent, linear)
    method, bits, block = _quantization(config, whole)
    return Architecture(
        model_type=model_type,
        hidden=hidden,
        heads=heads,
        kv_heads=kv_heads,
        head_size=head_size,
        layers=layers,
        layer_count=count,
        intermediate=intermediate,
        gated=model_type not in model_types.UNGATED_TYPES,
        vocabulary=vocabulary,
        tied=encoder
        or (model_type in model_types.DEFAULT_EMBEDDING_TIES if tied is None else bool(tied)),
        experts=experts,
        latent=latent,
        linear=linear,
        max_length=_max_length(config),
        stored_bytes=_stored_bytes(config, whole),
        quantization=method,
        bits=bits,
        prediction_layers=_number(config, "num_nextn_predict_layers") or 0,
        block=block,
        counted=(layers is not None or encoder) and bool(intermediate or experts),
    )


def _number(config: Mapping[str, Any], *keys: str) -> int | None:
    """Return the first of these keys that holds a number above zero."""
    for key in keys:
        value = config.get(key)
        if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= LARGEST_SIZE:
            return value
    return None


def _kv_heads(config: Mapping[str, Any], heads: int) -> int:
    """Return the number of KV heads, by the keys that vLLM reads it from."""
    if config.get("multi_query") and not config.get("new_decoder_architecture"):
        return 1
    keys = ("n_head_kv", "num_kv_heads", "num_key_value_heads", "num_attention_groups")
    return _number(config, *keys) or heads


def _max_length(config: Mapping[str, Any]) -> int | None:
    """Return the context length; YaRN's is the original one times its factor, as vLLM has it."""
    rope = config.get("rope_scaling") or config.get("rope_parameters")
    if isinstance(rope, Mapping) and (rope.get("rope_type") or rope.get("type")) == "yarn":
        original = _number(rope, "original_max_position_embeddings")
        factor = rope.get("factor")
        if original is not None and isinstance(factor, int | float):
            length = int(original * factor)
            return length if 0 < length <= LARGEST_SIZE else None
    return _number(config, "max_position_embeddings", "n_positions")


def _stored_bytes(config: Mapping[str, Any], whole: Mapping[str, Any]) -> int:
    name = next(
        (
            str(part[key])
            for part in (config, whole)
            for key in ("dtype", "torch_dtype")
            if part.get(key)
        ),
        "bfloat16",
    )
    return 4 if name.removeprefix("torch.") in ("float32", "float") else 2


def _latent(config: Mapping[str, Any], model_type: str) -> LatentAttention | None:
    rank, rope = _number(config, "kv_lora_rank"), _number(config, "qk_rope_head_dim")
    if model_type not in model_types.MLA_TYPES or rank is None or rope is None:
        return None
    return LatentAttention(
        kv_rank=rank,
        q_rank=_number(config, "q_lora_rank"),
        rope=rope,
        nope=_number(config, "qk_nope_head_dim") or 128,
        value=_number(config, "v_head_dim") or 128,
    )


def _linear(config: Mapping[str, Any]) -> LinearAttention | None:
    heads = _number(config, "linear_num_value_heads")
    if heads is None:
        return None
    return LinearAttention(
        key_heads=_number(config, "linear_num_key_heads") or heads,
        value_heads=heads,
        key_size=_number(config, "linear_key_head_dim") or 128,
        value_size=_number(config, "linear_value_head_dim") or 128,
        kernel=_number(config, "linear_conv_kernel_dim") or 4,
        state_bytes=4 if config.get("mamba_ssm_dtype") == "float32" else 2,
    )


def _experts(config: Mapping[str, Any], model_type: str, layers: int) -> Experts | None:
    count = _number(
        config, "num_experts", "n_routed_experts", "num_local_experts", "moe_num_experts"
    )
    size = _number(config, "moe_intermediate_size", "intermediate_size")
    if count is None or count < 2 or size is None:
        return None
    shared = (_number(config, "n_shared_experts", "moe_num_shared_experts") or 0) * size
    shared += _number(config, "shared_expert_intermediate_size") or 0
    if model_type == "llama4_text":
        shared += size
    dense = config.get("mlp_only_layers")
    step = _number(config, "decoder_sparse_step", "interleave_moe_layer_step") or 1
    first = _number(config, "first_k_dense_replace", "moe_layer_start_index") or 0
    without = len(dense) if isinstance(dense, list) else 0
    return Experts(
        count=count, size=size, shared=shared, layers=max((layers - first) // step - without, 0)
    )


def _layers(
    config: Mapping[str, Any],
    model_type: str,
    count: int,
    kv_heads: int,
    head_size: int,
    latent: LatentAttention | None,
    linear: LinearAttention | None,
) -> tuple[Layer, ...] | None:
    """Return the layers that keep a cache."""
    if any(config.get(key) for key in model_types.OTHER_CACHES) or model_type.endswith(
        model_types.WITHOUT_CACHE
    ):
        return None
    if latent is None and _number(config, "kv_lora_rank"):
        return None  # latent attention of a model_type that is not known here
    kinds = _kinds(config, model_type, count)
    if kinds is None or ("linear" in kinds and linear is None):
        return None
    shared = _number(config, "num_kv_shared_layers") or 0
    kinds = kinds[: count - shared]
    if latent is not None:
        width = latent.kv_rank + latent.rope
        index = _number(config, "index_head_dim") or 0
        # vLLM's deepseek_v2.Indexer: one byte a value, and a 4-byte scale for each 128 of them.
        indexer = index + 4 * (index // 128)
        return tuple(
            Layer("linear" if kind == "linear" else "full", 1, width, latent=width, indexer=indexer)
            for kind in kinds
        )
    wide = _number(config, "global_head_dim") or head_size
    wide_heads = _number(config, "num_global_key_value_heads") or kv_heads
    window = _number(config, "sliding_window")
    if model_type in ("cohere2", "cohere2_vision") and window:
        window += 1  # vLLM's commandr.py: to match how these were trained
    chunk = _number(config, "attention_chunk_size")
    return tuple(
        Layer("full", wide_heads, wide)
        if kind == "full"
        else Layer(kind, kv_heads, head_size, window=chunk if kind == "chunked" else window)
        for kind in kinds
    )


def _kinds(config: Mapping[str, Any], model_type: str, count: int) -> list[Kind] | None:
    """Return the kind of each layer's cache; None if one is not known here."""
    types = config.get("layer_types")
    window = _number(config, "sliding_window")
    if isinstance(types, list):
        if len(types) != count or not all(name in model_types.KINDS for name in types):
            return None
        named = [model_types.KINDS[name] for name in types]
        return ["full" if kind == "sliding" and window is None else kind for kind in named]
    if interval := _number(config, "full_attention_interval"):
        return ["linear" if (index + 1) % interval else "full" for index in range(count)]
    if model_type in model_types.ALTERNATING:
        every = _number(config, "sliding_window_pattern") or model_types.ALTERNATING[model_type]
        other: Kind = "chunked" if model_type == "llama4_text" else "sliding"
        known = _number(config, "attention_chunk_size") if other == "chunked" else window
        return [other if (i + 1) % every and known else "full" for i in range(count)]
    if window is None or config.get("use_sliding_window") is False:
        return ["full"] * count
    if model_type in model_types.WINDOW_NEEDS_SWITCH:
        if not config.get("use_sliding_window"):
            return ["full"] * count
        first = _number(config, "max_window_layers") or 0
        return ["full" if index < first else "sliding" for index in range(count)]
    return ["sliding"] * count


def _quantization(
    config: Mapping[str, Any], whole: Mapping[str, Any]
) -> tuple[str | None, float | None, int | None]:
    """Return method, bits of a weight with its scales, and the fp8 block size of a quantized checkpoint."""
    entry = whole.get(contract.FACT_QUANTIZATION) or config.get(contract.FACT_QUANTIZATION)
    if not isinstance(entry, Mapping):
        return None, None, None
    method = str(entry.get("quant_method") or entry.get("quant_algo") or "unknown").lower()
    blocks = entry.get("weight_block_size")
    block = None
    if method == "fp8" and isinstance(blocks, list) and blocks:
        block = _number({"size": blocks[0]}, "size")
    stated = _number(entry, "bits", "weight_bits")
    text = f"{method} {entry.get('quant_algo', '')} {entry.get('format', '')}".lower()
    if stated is not None:
        # a 16-bit scale and a zero point for each group of 128
        return method, stated + 0.16 if stated < 8 else float(stated), block
    if "mxfp4" in text:
        return method, 4.25, block  # a byte for each 32 values
    if "fp4" in text or "nvfp4" in text:
        return method, 4.5, block  # a byte for each 16 values
    if "pack-quantized" in text:
        return method, 4.16, block
    if "fp8" in text or "int-quantized" in text or "float-quantized" in text:
        return method, 8.0, block
    return method, None, block
