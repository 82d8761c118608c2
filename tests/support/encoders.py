"""Encoders for tests: a real one, tiny random ones, and what PyTorch makes of the same input."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import tokenizers
import torch
import transformers

from dev.models import minilm

SOURCE = minilm.SOURCE
"""all-MiniLM-L6-v2 as its authors published it."""


class Reference:
    """The PyTorch model behind the tokenizer of its folder."""

    def __init__(self, folder: Path) -> None:
        config = transformers.AutoConfig.from_pretrained(folder)
        classifies = config.architectures[0].endswith("ForSequenceClassification")
        kind: Any = (
            transformers.AutoModelForSequenceClassification
            if classifies
            else transformers.AutoModel
        )
        self.model = kind.from_pretrained(folder, dtype=torch.float32).eval()
        self.tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_truncation()
        self.tokenizer.enable_padding()

    def inputs(self, texts: Sequence[str | tuple[str, str]]) -> dict[str, torch.Tensor]:
        """A padded batch."""
        encoded = self.tokenizer.encode_batch(list(texts))
        return {
            "input_ids": torch.tensor([one.ids for one in encoded]),
            "attention_mask": torch.tensor([one.attention_mask for one in encoded]),
            "token_type_ids": torch.tensor([one.type_ids for one in encoded]),
        }

    def vectors(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Mean pooled and of length one, as MiniLM's own files say."""
        inputs = self.inputs(texts)
        with torch.inference_mode():
            states = self.model(**inputs).last_hidden_state
        mask = inputs["attention_mask"].unsqueeze(-1)
        pooled = (states * mask).sum(1) / mask.sum(1)
        return cast(npt.NDArray[np.float32], torch.nn.functional.normalize(pooled, dim=1).numpy())

    def logits(self, texts: Sequence[str | tuple[str, str]]) -> torch.Tensor:
        """A classifier's raw output."""
        with torch.inference_mode():
            return cast(torch.Tensor, self.model(**self.inputs(texts)).logits)


@functools.cache
def reference() -> Reference:
    """The real encoder in PyTorch."""
    return Reference(SOURCE)


def write_classifier(folder: Path, *, labels: Sequence[str]) -> None:
    """A tiny random BERT with a head for that many labels, and MiniLM's tokenizer."""
    torch.manual_seed(len(labels))
    config = transformers.BertConfig(
        vocab_size=30522,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=128,
        initializer_range=1.0,
        id2label=dict(enumerate(labels)),
        label2id={label: index for index, label in enumerate(labels)},
    )
    transformers.BertForSequenceClassification(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((SOURCE / name).read_bytes())
