"""Training of a model from nothing on the questions that a student of the same size sees, as often."""

import random
from pathlib import Path

import torch

from benchmarks.builds import lab
from dev.models import dataset, heldout, tokenizer, train


def write(folder: Path, *, layers: int, epochs: int) -> Path:
    """Train, and write the model with its tokenizer."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    tokens = tokenizer.load(lab.SOURCE)
    model = train.new_model(tokens, width=128, inner=384, layers=layers, heads=4)
    items, rng = heldout.read(lab.LESSONS), random.Random(0)
    texts = [
        dataset.turn(item["prompt"], item["answer"])
        for _ in range(epochs)
        for item in rng.sample(items, len(items))
    ]
    batches = list(dataset.packed(tokens, texts))
    train.fit(
        model, train.cross_entropy, batches=batches, steps=len(batches), rate=4e-3, name="scratch"
    )
    train.save(model, tokens, folder)
    return folder
