"""LoRA adapters for tests, in PEFT's format."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file


def write_adapter(
    folder: Path, *, model: Path, seed: int, rank: int = 4, hidden: int | None = None
) -> str:
    """A random adapter of the model's attention; its uri. Another `hidden` makes it one of another model."""
    folder.mkdir(exist_ok=True)
    shape = json.loads((model / "config.json").read_text())
    config = {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": 16,
        "target_modules": ["q_proj", "v_proj"],
        "bias": "none",
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    random = np.random.default_rng(seed)
    columns, head = hidden or shape["hidden_size"], shape["head_dim"]
    rows = {
        "q_proj": shape["num_attention_heads"] * head,
        "v_proj": shape["num_key_value_heads"] * head,
    }
    weights = {}
    for layer in range(shape["num_hidden_layers"]):
        for name, count in rows.items():
            prefix = f"base_model.model.model.layers.{layer}.self_attn.{name}"
            for part, size in {"lora_A": (rank, columns), "lora_B": (count, rank)}.items():
                weights[f"{prefix}.{part}.weight"] = random.standard_normal(size).astype(np.float32)
    save_file(weights, folder / "adapter_model.safetensors")
    return f"file://{folder}"
