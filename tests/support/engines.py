"""A real engine process with a tiny random model, for tests that talk to it."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from slipstream_runtime import contract
from tests.support.processes import Process

NAME = "tiny"


def write_model(folder: Path, *, positions: int = 1024) -> None:
    """A random Llama over single bytes: 2 layers, 0.4 M parameters."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate(["<s>", "</s>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.add_special_tokens(["<s>", "</s>"])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "chat_template": "{% for m in messages %}{{ m['content'] }}\n{% endfor %}",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    hidden, heads, kv_heads, head, inner, layers = 128, 4, 2, 32, 256, 2
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": len(vocabulary),
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": head,
        "max_position_embeddings": positions,
        "tie_word_embeddings": False,
        "dtype": "float32",
        "bos_token_id": 0,
        "eos_token_id": 1,
    }
    (folder / "config.json").write_text(json.dumps(config))
    random = np.random.default_rng(0)

    def matrix(rows: int, columns: int) -> np.ndarray:
        return (random.standard_normal((rows, columns)) * 0.05).astype(np.float32)

    ones = np.ones(hidden, np.float32)
    weights = {
        "model.embed_tokens.weight": matrix(len(vocabulary), hidden) * 10,
        "model.norm.weight": ones,
        "lm_head.weight": matrix(len(vocabulary), hidden),
    }
    for layer in range(layers):
        shapes = {
            "self_attn.q_proj": (heads * head, hidden),
            "self_attn.k_proj": (kv_heads * head, hidden),
            "self_attn.v_proj": (kv_heads * head, hidden),
            "self_attn.o_proj": (hidden, heads * head),
            "mlp.gate_proj": (inner, hidden),
            "mlp.up_proj": (inner, hidden),
            "mlp.down_proj": (hidden, inner),
        }
        prefix = f"model.layers.{layer}"
        weights |= {f"{prefix}.{name}.weight": matrix(*shape) for name, shape in shapes.items()}
        weights[f"{prefix}.input_layernorm.weight"] = ones
        weights[f"{prefix}.post_attention_layernorm.weight"] = ones
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def write_noise(folder: Path, *, like: Path) -> None:
    """A draft of this one's form and tokenizer that knows nothing."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    shutil.copytree(like, folder)
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(
        transformers.AutoConfig.from_pretrained(like)
    )
    model.save_pretrained(folder)


class Engine(Process):
    """One vLLM engine."""

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        super().__init__(contract.ENGINE_MODULE, folder, config)


@contextmanager
def serving(folder: Path, config: dict[str, Any]) -> Iterator[Engine]:
    """An engine that is ready, until the end of the block."""
    engine = Engine(folder, config)
    try:
        engine.until_ready()
        yield engine
    finally:
        engine.kill()


def config(model: str, **more: object) -> dict[str, Any]:
    return {
        "model": {"uri": model, "name": NAME},
        "device": "cpu",
        "cores": 1,
        "cache": {"compile": False, "kvBytes": 32 * 1024 * 1024},
        "drainSeconds": 60,
        **more,
    }
