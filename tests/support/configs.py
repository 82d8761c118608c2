"""config.json of public models, as far as sizes go; numbers of weights are those of their model cards."""

from typing import Any, Final

CONFIGS: Final[dict[str, dict[str, Any]]] = {
    "Qwen3-8B": {
        "model_type": "qwen3", "hidden_size": 4096, "num_hidden_layers": 36, "num_attention_heads": 32,
        "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 12288, "vocab_size": 151936,
        "tie_word_embeddings": False, "max_position_embeddings": 40960, "torch_dtype": "bfloat16",
        "sliding_window": None, "use_sliding_window": False, "architectures": ["Qwen3ForCausalLM"],
    },
    "bge-m3": {
        "model_type": "xlm-roberta", "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16,
        "intermediate_size": 4096, "vocab_size": 250002, "max_position_embeddings": 8194,
        "torch_dtype": "float32", "architectures": ["XLMRobertaModel"],
    },
    "ERNIE-4.5-21B-A3B": {
        "model_type": "ernie4_5_moe", "hidden_size": 2560, "num_hidden_layers": 28, "num_attention_heads": 20,
        "num_key_value_heads": 4, "head_dim": 128, "intermediate_size": 12288, "moe_intermediate_size": 1536,
        "moe_num_experts": 64, "moe_num_shared_experts": 2, "moe_layer_start_index": 1, "vocab_size": 103424,
        "tie_word_embeddings": True, "max_position_embeddings": 131072, "torch_dtype": "bfloat16",
        "architectures": ["Ernie4_5_MoeForCausalLM"],
    },
    "Falcon-40B": {
        "model_type": "falcon", "hidden_size": 8192, "num_hidden_layers": 60, "num_attention_heads": 128,
        "num_kv_heads": 8, "multi_query": True, "new_decoder_architecture": True, "vocab_size": 65024,
        "max_position_embeddings": 2048, "torch_dtype": "bfloat16", "architectures": ["FalconForCausalLM"],
    },
    "starcoder": {
        "model_type": "gpt_bigcode", "n_embd": 6144, "n_layer": 40, "n_head": 48, "n_inner": 24576,
        "n_positions": 8192, "multi_query": True, "vocab_size": 49152, "torch_dtype": "bfloat16",
        "architectures": ["GPTBigCodeForCausalLM"],
    },
    "Llama-3.1-8B": {
        "model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 8, "intermediate_size": 14336, "vocab_size": 128256,
        "tie_word_embeddings": False, "max_position_embeddings": 131072, "torch_dtype": "bfloat16",
        "architectures": ["LlamaForCausalLM"],
    },
    "Qwen3-0.6B": {
        "model_type": "qwen3", "hidden_size": 1024, "num_hidden_layers": 28, "num_attention_heads": 16,
        "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 3072, "vocab_size": 151936,
        "tie_word_embeddings": True, "max_position_embeddings": 40960, "torch_dtype": "bfloat16",
        "architectures": ["Qwen3ForCausalLM"],
    },
    "Llama-3.1-70B": {
        "model_type": "llama", "hidden_size": 8192, "num_hidden_layers": 80, "num_attention_heads": 64,
        "num_key_value_heads": 8, "intermediate_size": 28672, "vocab_size": 128256,
        "tie_word_embeddings": False, "max_position_embeddings": 131072, "torch_dtype": "bfloat16",
        "architectures": ["LlamaForCausalLM"],
    },
    "Mixtral-8x7B": {
        "model_type": "mixtral", "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 8, "intermediate_size": 14336, "vocab_size": 32000, "num_local_experts": 8,
        "sliding_window": None, "tie_word_embeddings": False, "max_position_embeddings": 32768,
        "torch_dtype": "bfloat16", "architectures": ["MixtralForCausalLM"],
    },
    "gpt-oss-20b": {
        "model_type": "gpt_oss", "hidden_size": 2880, "num_hidden_layers": 24, "num_attention_heads": 64,
        "num_key_value_heads": 8, "head_dim": 64, "intermediate_size": 2880, "vocab_size": 201088,
        "num_local_experts": 32, "sliding_window": 128, "tie_word_embeddings": False,
        "max_position_embeddings": 131072, "quantization_config": {"quant_method": "mxfp4"},
        "architectures": ["GptOssForCausalLM"],
    },
    "gemma-3-12b": {
        "model_type": "gemma3", "architectures": ["Gemma3ForConditionalGeneration"], "torch_dtype": "bfloat16",
        "text_config": {
            "model_type": "gemma3_text", "hidden_size": 3840, "num_hidden_layers": 48, "num_attention_heads": 16,
            "num_key_value_heads": 8, "head_dim": 256, "intermediate_size": 15360, "vocab_size": 262208,
            "sliding_window": 1024, "max_position_embeddings": 131072,
        },
    },
    "Qwen3-30B-A3B": {
        "model_type": "qwen3_moe", "hidden_size": 2048, "num_hidden_layers": 48, "num_attention_heads": 32,
        "num_key_value_heads": 4, "head_dim": 128, "intermediate_size": 6144, "moe_intermediate_size": 768,
        "num_experts": 128, "decoder_sparse_step": 1, "mlp_only_layers": [], "vocab_size": 151936,
        "tie_word_embeddings": False, "max_position_embeddings": 40960, "torch_dtype": "bfloat16",
        "architectures": ["Qwen3MoeForCausalLM"],
    },
    "DeepSeek-V3": {
        "model_type": "deepseek_v3", "hidden_size": 7168, "num_hidden_layers": 61, "num_attention_heads": 128,
        "num_key_value_heads": 128, "intermediate_size": 18432, "moe_intermediate_size": 2048,
        "n_routed_experts": 256, "n_shared_experts": 1, "first_k_dense_replace": 3, "vocab_size": 129280,
        "kv_lora_rank": 512, "q_lora_rank": 1536, "qk_rope_head_dim": 64, "qk_nope_head_dim": 128,
        "v_head_dim": 128, "tie_word_embeddings": False, "max_position_embeddings": 163840,
        "torch_dtype": "bfloat16", "architectures": ["DeepseekV3ForCausalLM"],
        "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]},
    },
    "Qwen3-Next-80B-A3B": {
        "model_type": "qwen3_next", "hidden_size": 2048, "num_hidden_layers": 48, "num_attention_heads": 16,
        "num_key_value_heads": 2, "head_dim": 256, "intermediate_size": 5120, "moe_intermediate_size": 512,
        "shared_expert_intermediate_size": 512, "num_experts": 512, "decoder_sparse_step": 1,
        "mlp_only_layers": [], "vocab_size": 151936, "tie_word_embeddings": False,
        "full_attention_interval": 4, "linear_num_key_heads": 16, "linear_num_value_heads": 32,
        "linear_key_head_dim": 128, "linear_value_head_dim": 128, "linear_conv_kernel_dim": 4,
        "max_position_embeddings": 262144, "torch_dtype": "bfloat16", "architectures": ["Qwen3NextForCausalLM"],
    },
    "gpt2": {
        "model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "vocab_size": 50257,
        "n_positions": 1024, "architectures": ["GPT2LMHeadModel"],
    },
}  # fmt: skip

BILLIONS: Final = {
    "Qwen3-8B": 8.19,
    "Qwen3-0.6B": 0.596,
    "Llama-3.1-70B": 70.55,
    "Mixtral-8x7B": 46.70,
    "gpt-oss-20b": 20.91,
    "gemma-3-12b": 11.77,
    "Qwen3-30B-A3B": 30.53,
    "DeepSeek-V3": 671.0,
    "Qwen3-Next-80B-A3B": 79.67,
    "gpt2": 0.1244,
    "bge-m3": 0.5596,  # of 0.568, without the position embedding
    "ERNIE-4.5-21B-A3B": 21.83,
    "Falcon-40B": 41.3,
    "starcoder": 15.5,
    "Llama-3.1-8B": 8.03,
}
"""Weights of the language model, without a vision tower and without multi-token prediction."""
