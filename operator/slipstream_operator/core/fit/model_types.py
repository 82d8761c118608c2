"""Families of models, by model_type, whose properties are not in config.json, as vLLM 0.32 reads them.

Sources: vllm/transformers_utils/model_arch_config_convertor.py for heads and sizes, vllm/model_executor/models for the
layers that have a window.
"""

from collections.abc import Mapping
from typing import Final

from slipstream_operator.core.fit.architecture import Kind

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
"""Keys of models whose layers have a cache of an unknown kind, such as the states of Mamba layers."""
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
