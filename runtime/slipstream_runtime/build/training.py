"""Training inside a step: a fine-tune of transformers' Trainer that resumes after a killed run, and the parts of it.

The parts `arguments`, `watch` and `newest` fit every trainer that is built on transformers' Trainer, as TRL's are.
"""

import math
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
import transformers
from torch.nn import functional

from slipstream_runtime.build import models, texts
from slipstream_runtime.build.recipe import Training
from slipstream_runtime.build.steps.step import Context, Tick
from slipstream_runtime.errors import UnsuitableError

SAVES: Final = 10
"""Number of checkpoints of a training, so that a killed run loses at most a tenth."""
_WHOLE: Final = "whole"
"""File that is written when all other files of a checkpoint are on the disk."""
_PREFIX: Final = "checkpoint-"


def rate(width: int) -> float:
    """Return the default learning rate of a fine-tune: in inverse proportion to the width, 3e-5 at 4,096."""
    return 0.125 / width


def halves(report: Callable[[Tick], None]) -> tuple[Callable[[Tick], None], Callable[[Tick], None]]:
    """Return two reports: for the work before a fine-tune, a fifth of the step, and for the fine-tune."""

    def scaled(begin: int, size: int) -> Callable[[Tick], None]:
        def say(tick: Tick) -> None:
            report(Tick(begin + size * tick.done // max(1, tick.total), 1000, tick.loss))

        return say

    return scaled(0, 200), scaled(200, 800)


def settle(half: Path, whole: Path) -> None:
    """Rename a folder once its files are on the disk, so that a killed run finds all of it or nothing."""
    for path in half.rglob("*"):
        if path.is_file():
            _sync(path)
    half.rename(whole)
    _sync(whole.parent)


def arguments(
    training: Training, context: Context, *, steps: int, learning_rate: float
) -> dict[str, Any]:
    """Return keyword arguments for TrainingArguments: seeds, device, checkpoints and quiet output."""
    return {
        "output_dir": str(context.training),
        "max_steps": steps,
        "learning_rate": training.learning_rate or learning_rate,
        "per_device_train_batch_size": training.batch,
        "lr_scheduler_type": "cosine",
        "warmup_steps": max(1, steps // 20),
        "seed": context.seed,
        "data_seed": context.seed,
        "use_cpu": context.device == "cpu",
        "bf16": context.device == "cuda",
        "save_strategy": "steps",
        "save_steps": max(1, steps // SAVES),
        "logging_strategy": "steps",
        "logging_steps": max(1, steps // 100),
        "logging_nan_inf_filter": False,
        "disable_tqdm": True,
        "report_to": [],
        "remove_unused_columns": False,
        "dataloader_pin_memory": False,
    }


def watch(trainer: Any, context: Context, *, report: Callable[[Tick], None] | None = None) -> None:
    """Let a trainer report progress and loss, keep its newest whole checkpoint, and print nothing."""
    say = report or context.progress

    class Keeper(transformers.TrainerCallback):  # type: ignore[misc]
        loss: float | None = None

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if logs and "loss" in logs:
                self.loss = float(logs["loss"])
                if not math.isfinite(self.loss):
                    raise UnsuitableError(
                        f"training: the loss is {self.loss} after {state.global_step} of {state.max_steps} steps. Use "
                        "a smaller learningRate."
                    )

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            say(Tick(state.global_step, state.max_steps, self.loss))

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            _keep(context.training / f"{_PREFIX}{state.global_step}")

    trainer.remove_callback(transformers.PrinterCallback)
    trainer.add_callback(Keeper())


def newest(folder: Path) -> Path | None:
    """Return the newest whole checkpoint of a training, and remove those that a killed run left half-written."""
    for path in folder.glob(f"{_PREFIX}*"):
        if not (path / _WHOLE).exists():
            shutil.rmtree(path)
    return max(folder.glob(f"{_PREFIX}*"), key=_number, default=None)


def clear(folder: Path) -> None:
    """Remove the checkpoints of a training whose result is written."""
    for path in folder.glob(f"{_PREFIX}*"):
        shutil.rmtree(path)


def _keep(folder: Path) -> None:
    """Mark a checkpoint as whole once it is on the disk, and then remove the older ones."""
    for path in folder.rglob("*"):
        if path.is_file():
            _sync(path)
    (folder / _WHOLE).touch()
    _sync(folder)
    for other in folder.parent.glob(f"{_PREFIX}*"):
        if other != folder:
            shutil.rmtree(other)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _number(path: Path) -> int:
    return int(path.name.removeprefix(_PREFIX))


@dataclass(frozen=True, slots=True)
class Healing:
    """Fine-tune of a checkpoint that lost weights, on a dataset and on the logits of the model that it was."""

    training: Training
    keep_zeros: bool
    """Whether weights that are zero in a linear layer stay zero."""

    def run(
        self,
        damaged: Path,
        teacher: Path,
        target: Path,
        context: Context,
        *,
        report: Callable[[Tick], None] | None = None,
    ) -> Mapping[str, Any]:
        """Write the healed checkpoint to `target`, and return its facts. A killed run goes on where it was."""
        student = models.load(damaged, dtype="float32")
        dtype = models.config(damaged).get("dtype") or "float32"
        tokens = texts.tokenize(
            models.tokenizer(teacher),
            context.items(self.training),
            max_length=self.training.max_length,
        )
        trainer = self._trainer(student, models.load(teacher), tokens, context, report=report)
        found = newest(context.training)
        trainer.train(resume_from_checkpoint=str(found) if found else None)
        models.save(student.to(device="cpu", dtype=getattr(torch, dtype)), teacher, target)
        return _facts(trainer.state, items=len(tokens))

    def _trainer(
        self,
        student: Any,
        teacher: Any,
        tokens: Sequence[texts.Tokens],
        context: Context,
        *,
        report: Callable[[Tick], None] | None,
    ) -> Any:
        class Trainer(transformers.Trainer):  # type: ignore[misc]
            def compute_loss(self, model: Any, inputs: Any, **_: Any) -> Any:
                return _loss(model, teacher, inputs)

        teacher.requires_grad_(False).to("cpu" if context.device == "cpu" else "cuda")
        steps = max(1, round(len(tokens) * self.training.epochs / self.training.batch))
        options = arguments(
            self.training, context, steps=steps, learning_rate=rate(student.config.hidden_size)
        )
        torch.use_deterministic_algorithms(True, warn_only=True)
        trainer = Trainer(
            model=student,
            args=transformers.TrainingArguments(**options),
            train_dataset=list(tokens),
            data_collator=_collate,
            callbacks=[_zeros(student)] if self.keep_zeros else [],
        )
        watch(trainer, context, report=report)
        return trainer


def _loss(model: Any, teacher: Any, inputs: Mapping[str, Any]) -> Any:
    """Return the divergence from the teacher over all tokens, and the cross entropy of the right answers."""
    asked = {"input_ids": inputs["input_ids"], "attention_mask": inputs["attention_mask"]}
    with torch.no_grad():
        wanted = teacher(**asked, use_cache=False).logits[:, :-1].float().log_softmax(-1)
    logits = model(**asked, use_cache=False).logits[:, :-1].float()
    real = inputs["attention_mask"][:, 1:].bool()
    ours = logits.log_softmax(-1)
    divergence = functional.kl_div(ours[real], wanted[real], reduction="batchmean", log_target=True)
    labels = inputs["labels"][:, 1:]
    if not (labels >= 0).any():
        return divergence
    return divergence + functional.cross_entropy(logits.mT, labels, ignore_index=-100)


def _zeros(model: Any) -> Any:
    """Return a callback that puts zeros of linear layers back after each step."""
    linear = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    zeros = [(module.weight, module.weight == 0) for module in linear]

    class Zeros(transformers.TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            with torch.no_grad():
                for weight, zero in zeros:
                    weight.masked_fill_(zero.to(weight.device), 0)

    return Zeros()


def _collate(rows: Sequence[texts.Tokens]) -> Mapping[str, Any]:
    """Return a padded batch. Tokens of a question have no label: only the teacher says what follows them."""
    longest = max(len(row.ids) for row in rows)
    ids = torch.zeros((len(rows), longest), dtype=torch.long)
    mask = torch.zeros_like(ids)
    labels = torch.full_like(ids, -100)
    for number, row in enumerate(rows):
        size = len(row.ids)
        ids[number, :size] = torch.tensor(row.ids)
        mask[number, :size] = 1
        if row.answer:
            labels[number, row.answer : size] = ids[number, row.answer : size]
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def _facts(state: Any, *, items: int) -> dict[str, Any]:
    losses = [entry["loss"] for entry in state.log_history if "loss" in entry]
    return {
        "healItems": items,
        "healSteps": state.global_step,
        "healLossFirst": round(losses[0], 4) if losses else None,
        "healLossLast": round(losses[-1], 4) if losses else None,
    }
