"""Architecture of a language model, as its config.json describes it and as vLLM 0.32 reads it.

Sources: vllm/transformers_utils/model_arch_config_convertor.py for heads and sizes, vllm/model_executor/models for the
layers that have a window. A config that doesn't say enough gives None: unknown refuses nothing.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias

from slipstream_runtime import contract

Kind: TypeAlias = Literal["full", "sliding", "chunked", "linear"]

MLA_TYPES: Final = frozenset(
    {
        "axk1", "deepseek_v2", "deepseek_v3", "deepseek_v32", "dots3_note", "deepseek_mtp",
        "glm5_next", "glm5_next_text", "glm_moe_dsa", "glm4_moe_lite", "kimi_k2", "kimi_linear",
        "longcat_flash", "pangu_ultra_moe", "bailing_hybrid",
    }
)  # fmt: skip
"""Values of model_type with multi-head latent attention, if kv_lora_rank is set: vLLM's is_deepseek_mla."""
UNGATED_TYPES: Final = frozenset(
    {
        "gpt2", "gpt_neo", "gpt_neox", "gpt_bigcode", "gptj", "codegen", "opt", "bloom", "falcon", "phi",
        "starcoder2", "nemotron", "mpt", "persimmon", "bert", "roberta", "xlm-roberta", "camembert", "electra", "mpnet",
    }
)  # fmt: skip
"""Values of model_type whose MLP has two matrices; all others have three (gate, up, down)."""
ALTERNATING: Final[Mapping[str, int]] = {
    "gemma2": 2, "gpt_oss": 2, "gemma3": 6, "gemma3_text": 6, "cohere2": 4, "llama4_text": 4,
}  # fmt: skip
"""Values of model_type of which each n-th layer attends to everything: transformers' defaults of layer_types."""
WINDOW_NEEDS_SWITCH: Final = frozenset({"qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "qwen2_5_vl"})
"""Values of model_type whose sliding_window has an effect only with use_sliding_window."""
KINDS: Final[Mapping[str, Kind]] = {
    "full_attention": "full",
    "attention": "full",
    "sliding_attention": "sliding",
    "sliding_window": "sliding",
    "chunked_attention": "chunked",
    "linear_attention": "linear",
}
"""Values of config.json's layer_types -> kind of their cache."""
OTHER_CACHES: Final = (
    "compress_ratios", "block_configs", "hybrid_override_pattern", "layers_block_type",
    "attn_layer_period", "attn_type_list", "mamba_d_state", "state_size", "ssm_cfg", "conv_L_cache",
    "attention_window_pattern", "is_encoder_decoder", "linear_attn_config", "layer_group_size",
)  # fmt: skip
"""Keys of models whose layers keep something that is not known here, such as the states of Mamba layers."""
WITHOUT_CACHE: Final = ("bert", "roberta", "electra", "deberta", "nomic_bert", "gte", "mpnet")
"""Ends of model_type of encoders, which keep no KV cache."""
DEFAULT_EMBEDDING_TIES: Final = frozenset(
    {
        "gemma", "gemma2", "gemma3", "gemma3_text", "gemma3n", "gemma3n_text", "gemma4_text", "gpt2", "gpt_neo",
        "gpt_bigcode", "cohere", "cohere2", "opt", "bloom", "falcon", "mpt", "starcoder2", "smollm3", "ernie4_5",
        "lfm2",
    }
)  # fmt: skip
"""Values of model_type that share input and output embedding unless tie_word_embeddings says otherwise."""
MOST_LAYERS: Final = 10_000
LARGEST_SIZE: Final = 1_000_000_000
"""Numbers beyond these are no sizes of a model: such a config is malformed."""


@dataclasses.dataclass(frozen=True)
class Layer:
    """KV cache of one layer."""

    kind: Kind
    kv_heads: int
    head_size: int
    window: int | None = None
    """Tokens that a sliding or chunked layer looks back."""
    latent: int | None = None
    """Values per token of a layer with latent attention, for all heads together."""
    indexer: int = 0
    """Bytes per token of a sparse layer's indexer."""


@dataclasses.dataclass(frozen=True)
class Experts:
    """Experts of the layers that have them."""

    count: int
    size: int
    """Intermediate size of one."""
    shared: int
    """Intermediate size of the shared ones together; they are replicated by none and split as an MLP."""
    layers: int


@dataclasses.dataclass(frozen=True)
class LatentAttention:
    """Ranks and head sizes of multi-head latent attention."""

    kv_rank: int
    q_rank: int | None
    rope: int
    nope: int
    value: int


@dataclasses.dataclass(frozen=True)
class LinearAttention:
    """Sizes of gated delta net layers, which keep a state of fixed size."""

    key_heads: int
    value_heads: int
    key_size: int
    value_size: int
    kernel: int
    state_bytes: int
    """Bytes of one value of the recurrent state."""


@dataclasses.dataclass(frozen=True)
class Architecture:
    """Sizes that a config.json states."""

    model_type: str
    hidden: int
    heads: int
    kv_heads: int
    head_size: int
    layers: tuple[Layer, ...] | None
    """None if the cache of some layer is of a kind that is not known here."""
    layer_count: int
    intermediate: int | None
    gated: bool
    vocabulary: int
    tied: bool
    experts: Experts | None
    latent: LatentAttention | None
    linear: LinearAttention | None
    max_length: int | None
    stored_bytes: int
    """Bytes of one weight that is not quantized, as stored."""
    quantization: str | None
    """Method of a checkpoint that is quantized already."""
    bits: float | None
    """Bits of a quantized weight, with its scales; None if unknown or not quantized."""
    prediction_layers: int
    """Layers of multi-token prediction in the checkpoint, which vLLM loads only for method mtp."""
    block: int | None
    """Size of the blocks that an fp8 checkpoint has scales for; each rank must hold whole ones."""
    counted: bool
    """Whether the weights follow from the sizes here: not where some layers are of kinds not known here."""

    @property
    def quantized(self) -> bool:
        """Whether the checkpoint's weights are quantized already."""
        return self.quantization is not None

    def with_window(self, window: int | None) -> "Architecture":
        """Return the same with another window where a layer has one: spec.attention.slidingWindow."""
        if window is None or self.layers is None:
            return self
        layers = tuple(
            dataclasses.replace(layer, window=window) if layer.kind == "sliding" else layer
            for layer in self.layers
        )
        return dataclasses.replace(self, layers=layers)


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
    tied = config.get("tie_word_embeddings", whole.get("tie_word_embeddings"))
    linear = _linear(config)
    intermediate = _number(config, "intermediate_size", "n_inner", "ffn_hidden_size")
    if intermediate is None and model_type in UNGATED_TYPES:
        intermediate = 4 * hidden
    experts = _experts(config, model_type, count)
    encoder = model_type.endswith(WITHOUT_CACHE)  # without an output matrix, too
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
        gated=model_type not in UNGATED_TYPES,
        vocabulary=vocabulary,
        tied=encoder or (model_type in DEFAULT_EMBEDDING_TIES if tied is None else bool(tied)),
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
    if model_type not in MLA_TYPES or rank is None or rope is None:
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
    if any(config.get(key) for key in OTHER_CACHES) or model_type.endswith(WITHOUT_CACHE):
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
        if len(types) != count or not all(name in KINDS for name in types):
            return None
        named = [KINDS[name] for name in types]
        return ["full" if kind == "sliding" and window is None else kind for kind in named]
    if interval := _number(config, "full_attention_interval"):
        return ["linear" if (index + 1) % interval else "full" for index in range(count)]
    if model_type in ALTERNATING:
        every = _number(config, "sliding_window_pattern") or ALTERNATING[model_type]
        other: Kind = "chunked" if model_type == "llama4_text" else "sliding"
        known = _number(config, "attention_chunk_size") if other == "chunked" else window
        return [other if (i + 1) % every and known else "full" for i in range(count)]
    if window is None or config.get("use_sliding_window") is False:
        return ["full"] * count
    if model_type in WINDOW_NEEDS_SWITCH:
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
