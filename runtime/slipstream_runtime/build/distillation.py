"""Training of a student by TRL: on its teacher's logits, on its teacher's answers, or on its own answers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import datasets
from trl import DistillationConfig, DistillationTrainer, SFTConfig, SFTTrainer
from trl.experimental.gkd import GKDConfig, GKDTrainer
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from slipstream_runtime.build import answers, decoders, models, shapes, structure, texts, training
from slipstream_runtime.build.recipe import Distill, Shape
from slipstream_runtime.build.steps.step import Context, Tick
from slipstream_runtime.errors import UnsuitableError
from slipstream_runtime.evaluate.quality.items import Item

_UNTRAINED: Final = -100
"""Label of a token that is not in the loss."""


def student(wanted: Shape | str, source: Path, context: Context) -> tuple[Any, Path]:
    """Return the untrained student in float32, and the folder of its other files."""
    if isinstance(wanted, str):
        folder = context.resolve(wanted)
        return models.load(folder, dtype="float32"), folder
    cut = models.load(source, dtype="float32")
    cut.set_attn_implementation("eager")
    config = structure.settings(cut)
    structure.keep_layers(cut, decoders.evenly(wanted.layers, of=config.num_hidden_layers))
    if wanted.hidden not in (None, config.hidden_size):
        structure.narrow(cut, wanted.hidden)
    return structure.rebuilt(cut), source


def check_vocabulary(folder: Path, source: Path) -> None:
    """Raise UnsuitableError if student and teacher don't read the same tokens."""
    ours, theirs = models.tokenizer(folder).get_vocab(), models.tokenizer(source).get_vocab()
    rows = [shapes.shape(models.config(one)).vocabulary for one in (folder, source)]
    if ours != theirs or rows[0] != rows[1]:
        raise UnsuitableError(
            "distill.student: can't be taught because its tokenizer has other tokens than the teacher's"
            f" ({rows[0]} and {rows[1]}). Use a student with the teacher's tokenizer, or give layers and hidden."
        )


@dataclass(frozen=True, slots=True)
class Lesson:
    """Everything that the training of one student needs."""

    student: Any
    teacher: Any
    tokenizer: Any
    step: Distill
    context: Context

    def run(self) -> Mapping[str, Any]:
        """Train the student in place, and return facts. A killed run goes on where it was."""
        items = self.context.items(self.step.training)
        if self.tokenizer.pad_token_id is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self.context.training.mkdir(parents=True, exist_ok=True)
        asked = self._questions(items)
        options = self._arguments(len(items))
        if self.step.loss == "reverse-kl":
            trainer = self._on_policy(items, options)
        else:
            examples = self._examples(items, asked, steps=options["max_steps"])
            trainer = self._on_examples(examples, options)
        training.watch(trainer, self.context, report=self._report(before=len(asked)))
        found = training.newest(self.context.training)
        trainer.train(resume_from_checkpoint=str(found) if found else None)
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        tenth = max(1, len(losses) // 10)
        return {
            "items": len(items),
            "answered": len(asked),
            "steps": trainer.state.global_step,
            "lossFirst": _mean(losses[:tenth]),
            "lossLast": _mean(losses[-tenth:]),
        }

    def _questions(self, items: Sequence[Item]) -> list[Item]:
        """Return the items that the teacher answers before the training."""
        if self.step.loss == "reverse-kl":
            return []
        own = self.step.loss == "sequence" or self.step.purpose == "Draft"
        return [item for item in items if item.asks and (own or not item.references)]

    def _arguments(self, items: int) -> dict[str, Any]:
        wanted = self.step.training
        steps = max(1, round(items * wanted.epochs / wanted.batch))
        parts = decoders.passes(wanted.batch, wanted.max_length)
        rate = training.rate(structure.settings(self.student).hidden_size)
        return {
            **training.arguments(wanted, self.context, steps=steps, learning_rate=rate),
            "per_device_train_batch_size": wanted.batch // parts,
            "gradient_accumulation_steps": parts,
            "gradient_checkpointing": self.context.device == "cuda",
        }

    def _report(self, *, before: int) -> Callable[[Tick], None]:
        """Return a report that counts the teacher's answers as steps that are done."""

        def report(tick: Tick) -> None:
            self.context.progress(replace(tick, done=tick.done + before, total=tick.total + before))

        return report

    def _examples(
        self, items: Sequence[Item], asked: Sequence[Item], *, steps: int
    ) -> list[texts.Tokens]:
        """Return questions with answers: the teacher's own where the step wants them, else the dataset's."""
        length = self.step.training.max_length
        names = {item.name for item in asked}
        given = [item for item in items if item.name not in names]
        found = texts.tokenize(self.tokenizer, given, max_length=length) if given else []
        if not asked:
            return found
        bare = [replace(item, references=()) for item in asked]
        answered = answers.answer(
            self.teacher,
            texts.tokenize(self.tokenizer, bare, max_length=length),
            max_length=length,
            file=self.context.training / "answers.jsonl",
            report=lambda done: self.context.progress(Tick(done, len(asked) + steps)),
        )
        whole = [*(one for one in answered if one.answer < len(one.ids)), *found]
        if not whole:
            raise self._too_short()
        return whole

    def _too_short(self) -> UnsuitableError:
        return UnsuitableError(
            f'distill.training.maxLength: "{self.step.training.max_length}" leaves no token for an answer.'
            " Use a greater length."
        )

    def _on_examples(self, examples: Sequence[texts.Tokens], options: dict[str, Any]) -> Any:
        """Return a trainer on these answers: with the teacher's logits, or without them."""

        class Trainer(GKDTrainer):  # type: ignore[misc]
            """GKD whose temperature softens the logits, too, and not only the sampling."""

            def generalized_jsd_loss(self, *args: Any, **options: Any) -> Any:
                softened = {**options, "temperature": self.temperature}
                return GKDTrainer.generalized_jsd_loss(*args, **softened)

        parts = {
            "model": self.student,
            "processing_class": self.tokenizer,
            "train_dataset": datasets.Dataset.from_list([_row(one) for one in examples]),
            "data_collator": DataCollatorForLanguageModeling(self.tokenizer.pad_token_id),
        }
        options = {**options, "dataset_kwargs": {"skip_prepare_dataset": True}, "max_length": None}
        if self.step.loss == "sequence":
            return SFTTrainer(args=SFTConfig(**options), **parts)
        # NB: lmbda 0 trains on the given answers, and beta 0 is the forward divergence.
        config = GKDConfig(**options, lmbda=0.0, beta=0.0, temperature=self.step.temperature)
        return Trainer(args=config, teacher_model=self.teacher, **parts)

    def _on_policy(self, items: Sequence[Item], options: dict[str, Any]) -> Any:
        """Return a trainer on the student's own answers, for which reverse divergence is meant."""
        bare = [replace(item, references=()) for item in items if item.asks]
        if not bare:
            raise UnsuitableError(
                'distill.loss: "reverse-kl" can\'t work because the dataset has texts only.'
                " Use forward-kl, or a dataset with questions."
            )
        length = self.step.training.max_length
        asked = texts.tokenize(self.tokenizer, bare, max_length=length)
        room = min(answers.LONGEST, length - max(len(one.ids) for one in asked))
        if room < 1:
            raise self._too_short()
        config = DistillationConfig(
            **options,
            beta=1.0,
            temperature=self.step.temperature,
            max_completion_length=room,
        )
        return DistillationTrainer(
            model=self.student,
            teacher_model=self.teacher,
            args=config,
            processing_class=self.tokenizer,
            train_dataset=datasets.Dataset.from_list([self._prompt(item) for item in bare]),
        )

    def _prompt(self, item: Item) -> dict[str, Any]:
        """Return a question in TRL's column, as messages if the tokenizer has a chat template."""
        if self.tokenizer.chat_template:
            return {"prompt": [dict(message) for message in item.conversation]}
        return {"prompt": "\n".join(message["content"] for message in item.conversation)}


def _mean(losses: Sequence[float]) -> float | None:
    return round(sum(losses) / len(losses), 4) if losses else None


def _row(example: texts.Tokens) -> dict[str, list[int]]:
    untrained = [_UNTRAINED] * example.answer
    return {
        "input_ids": list(example.ids),
        "labels": untrained + list(example.ids[example.answer :]),
    }
