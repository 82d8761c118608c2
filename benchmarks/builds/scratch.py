"""Training of a model from nothing, by the trainer and with the settings of a distilled student.

`python -m benchmarks.builds.scratch ORDER` runs in the builder's environment. The order is a JSON file with the
`training` of the student, `layers`, and `folder`, where the model is written. The model learns the right answers
without a teacher. Its items, their order, its steps and its learning rates are the student's.
"""

import json
import sys
from pathlib import Path
from typing import Any, NoReturn

import datasets
import torch
from trl import SFTConfig, SFTTrainer
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from benchmarks.builds import lab
from dev.models import tokenizer, train
from slipstream_runtime.build import libraries, texts, training
from slipstream_runtime.build.recipe import Training
from slipstream_runtime.build.steps.step import Context
from slipstream_runtime.evaluate.quality import datasets as questions

SEED = 0
"""Seed of a recipe that names none."""


def _options(wanted: Training, folder: Path, *, items: int) -> dict[str, Any]:
    def unused(*_: object) -> NoReturn:
        raise AssertionError("a training asks for neither items nor checkpoints")

    context = Context(
        device="cpu", seed=SEED, items=unused, resolve=unused, training=folder, progress=unused
    )
    assert wanted.learning_rate is not None
    return {
        **training.arguments(
            wanted,
            context,
            steps=max(1, round(items * wanted.epochs / wanted.batch)),
            learning_rate=wanted.learning_rate,
        ),
        "save_strategy": "no",
        "max_length": None,
        "dataset_kwargs": {"skip_prepare_dataset": True},
    }


def _row(example: texts.Tokens) -> dict[str, list[int]]:
    labels = [-100] * example.answer + list(example.ids[example.answer :])
    return {"input_ids": list(example.ids), "labels": labels}


def main() -> None:
    """Train, and write the model with its tokenizer."""
    order = json.loads(Path(sys.argv[1]).read_text())
    wanted, folder = Training.model_validate(order["training"]), Path(order["folder"])
    libraries.quiet()
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    tokens = tokenizer.load(lab.SOURCE)
    model = train.new_model(tokens, width=128, inner=384, layers=order["layers"], heads=4)
    items = questions.load(wanted.dataset, cache=folder, most=wanted.samples, seed=SEED).items
    examples = texts.tokenize(tokens, items, max_length=wanted.max_length)
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(**_options(wanted, folder, items=len(examples))),
        processing_class=tokens,
        train_dataset=datasets.Dataset.from_list([_row(one) for one in examples]),
        data_collator=DataCollatorForLanguageModeling(tokens.pad_token_id),
    )
    trainer.train()
    train.save(model, tokens, folder)


if __name__ == "__main__":
    main()
