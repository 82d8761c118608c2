"""Models without weights for a check of speed: real shapes, and a tokenizer in which each token is visible text."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from dev import paths

VOCABULARY: Final = 151_936
"""Tokens, as Qwen3 has them: the last layer takes its share of a step."""
_QWEN3: Final[Mapping[str, Any]] = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 0,
    "dtype": "bfloat16",
    "eos_token_id": 1,
    "head_dim": 128,
    "hidden_act": "silu",
    "initializer_range": 0.02,
    "max_position_embeddings": 40960,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1_000_000,
    "sliding_window": None,
    "use_sliding_window": False,
    "vocab_size": VOCABULARY,
}
SHAPES: Final[Mapping[str, Mapping[str, Any]]] = {
    "qwen3-8b": {
        "hidden_size": 4096,
        "intermediate_size": 12288,
        "num_attention_heads": 32,
        "num_hidden_layers": 36,
        "max_window_layers": 36,
        "tie_word_embeddings": False,
    },
    "qwen3-0.6b": {
        "hidden_size": 1024,
        "intermediate_size": 3072,
        "num_attention_heads": 16,
        "num_hidden_layers": 28,
        "max_window_layers": 28,
        "tie_word_embeddings": True,
    },
}
"""Name -> what config.json of the published model says of its size."""


def write(name: str, into: Path) -> Path:
    """Write config.json and tokenizer of a model of this shape; its weights are made up at load."""
    folder = into / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**_QWEN3, **SHAPES[name]}))
    tiny = paths.MODELS / "target"
    for file in ("tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        shutil.copy(tiny / file, folder / file)
    tokenizer = json.loads((tiny / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    known = set(vocabulary.values()) | {token["id"] for token in tokenizer["added_tokens"]}
    # NB: what decodes to nothing is no token that a client could time.
    vocabulary.update(
        {f"\u0120w{number}": number for number in range(VOCABULARY) if number not in known}
    )
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    return folder
