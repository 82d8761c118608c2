"""config.json of model families, without weights: all that decides which kernels vLLM takes.

Sizes are those of the published models, since kernels depend on them; what no decision reads is left out.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

Config = Mapping[str, Any]


def _causal(model_type: str, architecture: str, **sizes: Any) -> dict[str, Any]:
    return {
        "architectures": [architecture],
        "model_type": model_type,
        "torch_dtype": "bfloat16",
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": False,
        "bos_token_id": 0,
        "eos_token_id": 1,
        **sizes,
    }


def _compressed(
    bits: int,
    kind: str,
    *,
    strategy: str,
    form: str,
    group: int | None = None,
    activations: Config | None = None,
) -> dict[str, Any]:
    """quantization_config of the compressed-tensors library; weights and activations of one group."""
    weights = {"num_bits": bits, "type": kind, "symmetric": True, "dynamic": False}
    return {
        "quant_method": "compressed-tensors",
        "format": form,
        "ignore": ["lm_head"],
        "config_groups": {
            "group_0": {
                "targets": ["Linear"],
                "weights": {**weights, "strategy": strategy, "group_size": group},
                "input_activations": activations,
            }
        },
    }


def _per_token(kind: str) -> dict[str, Any]:
    return {"num_bits": 8, "type": kind, "symmetric": True, "strategy": "token", "dynamic": True}


FP8_BLOCK: Final = {
    "quant_method": "fp8",
    "fmt": "e4m3",
    "activation_scheme": "dynamic",
    "weight_block_size": [128, 128],
}
NVFP4_ACTIVATIONS: Final = {
    "num_bits": 4,
    "type": "float",
    "symmetric": True,
    "strategy": "tensor_group",
    "group_size": 16,
    "dynamic": "local",
}
QUANTIZATIONS: Final[Mapping[str, Config]] = {
    "fp8-block": FP8_BLOCK,
    "w8a8-fp8": _compressed(
        8,
        "float",
        strategy="channel",
        form="float-quantized",
        activations=_per_token("float"),
    ),
    "w8a8-int8": _compressed(
        8, "int", strategy="channel", form="int-quantized", activations=_per_token("int")
    ),
    "w4a16": _compressed(4, "int", strategy="group", form="pack-quantized", group=128),
    "awq": {"quant_method": "awq", "bits": 4, "group_size": 128, "version": "gemm", "zero_point": True},
    "gptq": {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": False, "sym": True},
    "nvfp4": _compressed(
        4,
        "float",
        strategy="tensor_group",
        form="nvfp4-pack-quantized",
        group=16,
        activations=NVFP4_ACTIVATIONS,
    ),
}  # fmt: skip
"""Kind of a quantized Qwen3-8B -> its quantization_config."""

_QWEN3: Final = _causal(
    "qwen3",
    "Qwen3ForCausalLM",
    hidden_size=4096,
    intermediate_size=12288,
    num_hidden_layers=36,
    num_attention_heads=32,
    num_key_value_heads=8,
    head_dim=128,
    vocab_size=151936,
    max_position_embeddings=40960,
    rope_theta=1000000,
)
_LLAMA: Final = _causal(
    "llama",
    "LlamaForCausalLM",
    hidden_size=4096,
    intermediate_size=14336,
    num_hidden_layers=32,
    num_attention_heads=32,
    num_key_value_heads=8,
    head_dim=128,
    vocab_size=128256,
    max_position_embeddings=131072,
    rope_theta=500000.0,
)
_LLAMA_70B: Final = {
    **_LLAMA,
    "hidden_size": 8192,
    "intermediate_size": 28672,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
}
_QWEN3_MOE: Final = {
    **_QWEN3,
    "architectures": ["Qwen3MoeForCausalLM"],
    "model_type": "qwen3_moe",
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "num_hidden_layers": 48,
    "num_key_value_heads": 4,
    "moe_intermediate_size": 768,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "norm_topk_prob": True,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
}
_DEEPSEEK_V3: Final = _causal(
    "deepseek_v3",
    "DeepseekV3ForCausalLM",
    hidden_size=7168,
    intermediate_size=18432,
    moe_intermediate_size=2048,
    num_hidden_layers=61,
    num_attention_heads=128,
    num_key_value_heads=128,
    first_k_dense_replace=3,
    moe_layer_freq=1,
    n_routed_experts=256,
    n_shared_experts=1,
    num_experts_per_tok=8,
    n_group=8,
    topk_group=4,
    topk_method="noaux_tc",
    scoring_func="sigmoid",
    norm_topk_prob=True,
    routed_scaling_factor=2.5,
    num_nextn_predict_layers=1,
    q_lora_rank=1536,
    kv_lora_rank=512,
    qk_nope_head_dim=128,
    qk_rope_head_dim=64,
    v_head_dim=128,
    vocab_size=129280,
    max_position_embeddings=163840,
    rope_theta=10000,
    rope_scaling={
        "type": "yarn",
        "factor": 40,
        "beta_fast": 32,
        "beta_slow": 1,
        "mscale": 1.0,
        "mscale_all_dim": 1.0,
        "original_max_position_embeddings": 4096,
    },
    quantization_config=FP8_BLOCK,
)
_GPT_OSS: Final = _causal(
    "gpt_oss",
    "GptOssForCausalLM",
    attention_bias=True,
    hidden_size=2880,
    intermediate_size=2880,
    num_hidden_layers=36,
    num_attention_heads=64,
    num_key_value_heads=8,
    head_dim=64,
    num_local_experts=128,
    num_experts_per_tok=4,
    experts_per_token=4,
    swiglu_limit=7.0,
    sliding_window=128,
    layer_types=["sliding_attention", "full_attention"] * 18,
    vocab_size=201088,
    max_position_embeddings=131072,
    initial_context_length=4096,
    rope_theta=150000,
    rope_scaling={
        "rope_type": "yarn",
        "factor": 32.0,
        "beta_fast": 32.0,
        "beta_slow": 1.0,
        "truncate": False,
        "original_max_position_embeddings": 4096,
    },
    quantization_config={
        "quant_method": "mxfp4",
        "modules_to_not_convert": [
            "model.layers.*.self_attn",
            "model.layers.*.mlp.router",
            "model.embed_tokens",
            "lm_head",
        ],
    },
)
_QWEN3_NEXT: Final = _causal(
    "qwen3_next",
    "Qwen3NextForCausalLM",
    hidden_size=2048,
    intermediate_size=5120,
    num_hidden_layers=48,
    num_attention_heads=16,
    num_key_value_heads=2,
    head_dim=256,
    full_attention_interval=4,
    layer_types=(["linear_attention"] * 3 + ["full_attention"]) * 12,
    linear_conv_kernel_dim=4,
    linear_key_head_dim=128,
    linear_value_head_dim=128,
    linear_num_key_heads=16,
    linear_num_value_heads=32,
    num_experts=512,
    num_experts_per_tok=10,
    moe_intermediate_size=512,
    shared_expert_intermediate_size=512,
    norm_topk_prob=True,
    decoder_sparse_step=1,
    mlp_only_layers=[],
    partial_rotary_factor=0.25,
    vocab_size=151936,
    max_position_embeddings=262144,
    rope_theta=10000000,
)
_GEMMA3: Final = _causal(
    "gemma3_text",
    "Gemma3ForCausalLM",
    hidden_activation="gelu_pytorch_tanh",
    hidden_size=3840,
    intermediate_size=15360,
    num_hidden_layers=48,
    num_attention_heads=16,
    num_key_value_heads=8,
    head_dim=256,
    query_pre_attn_scalar=256,
    sliding_window=1024,
    layer_types=(["sliding_attention"] * 5 + ["full_attention"]) * 8,
    rope_local_base_freq=10000.0,
    tie_word_embeddings=True,
    vocab_size=262208,
    max_position_embeddings=131072,
    rope_theta=1000000.0,
)

MODELS: Final[Mapping[str, Config]] = {
    "qwen3-8b": _QWEN3,
    **{
        f"qwen3-8b-{kind}": {
            **_QWEN3,
            "quantization_config": quantization,
            # The kernels of these two were written for float16, in which their checkpoints are published.
            **({"torch_dtype": "float16"} if kind in ("awq", "gptq") else {}),
        }
        for kind, quantization in QUANTIZATIONS.items()
    },
    "qwen3-0.6b": {
        **_QWEN3,
        "hidden_size": 1024,
        "intermediate_size": 3072,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "tie_word_embeddings": True,
    },
    "qwen3-30b-a3b": _QWEN3_MOE,
    "qwen3-30b-a3b-fp8-block": {**_QWEN3_MOE, "quantization_config": FP8_BLOCK},
    "qwen3-30b-a3b-nvfp4": {**_QWEN3_MOE, "quantization_config": QUANTIZATIONS["nvfp4"]},
    "qwen3-embedding-8b": {**_QWEN3, "vocab_size": 151665},
    "llama-8b": _LLAMA,
    "llama-70b": _LLAMA_70B,
    "llama-405b": {
        **_LLAMA_70B,
        "hidden_size": 16384,
        "intermediate_size": 53248,
        "num_hidden_layers": 126,
        "num_attention_heads": 128,
    },
    "llama-8b-eagle3": {
        **_LLAMA,
        "architectures": ["LlamaForCausalLMEagle3"],
        "num_hidden_layers": 1,
        "draft_vocab_size": 32000,
        "max_position_embeddings": 2048,
    },
    "deepseek-v3": _DEEPSEEK_V3,
    "gpt-oss-120b": _GPT_OSS,
    "qwen3-next-80b": _QWEN3_NEXT,
    "gemma3-12b": _GEMMA3,
}
"""Name -> config.json."""

SOURCES: Final[Mapping[str, str]] = {
    "hf://Qwen/Qwen3-8B": "qwen3-8b",
    "hf://Qwen/Qwen3-0.6B": "qwen3-0.6b",
    "pvc://models/qwen3-8b": "qwen3-8b",
    "s3://weights/qwen3-8b": "qwen3-8b",
    "s3://weights/qwen3-0.6b": "qwen3-0.6b",
    "oci://registry.example.com/models/qwen3-8b:1.0": "qwen3-8b",
    "pvc://models/llama-3.1-405b": "llama-405b",
}
"""Source that a sample names -> the model that stands for it."""


THINKING: Final = ("qwen3-8b",)
"""Models whose tokenizer has the tokens of reasoning, which vLLM's configuration of a reasoning parser looks up."""
_THINK: Final = ("<think>", "</think>")


def write(folder: Path) -> None:
    """Write every model as a folder of its own."""
    for name, config in MODELS.items():
        model = folder / name
        model.mkdir(parents=True, exist_ok=True)
        (model / "config.json").write_text(json.dumps(config))
        if name in THINKING:
            _write_tokenizer(model)


def _write_tokenizer(model: Path) -> None:
    """Write the smallest tokenizer that has the tokens of reasoning."""
    tokens = [
        {
            "id": number,
            "content": token,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": False,
        }
        for number, token in enumerate(_THINK)
    ]
    vocabulary = {token: number for number, token in enumerate((*_THINK, "a"))}
    tokenizer = {
        "version": "1.0",
        "added_tokens": tokens,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "a"},
    }
    settings = {"tokenizer_class": "PreTrainedTokenizerFast"}
    (model / "tokenizer.json").write_text(json.dumps(tokenizer))
    (model / "tokenizer_config.json").write_text(json.dumps(settings))
