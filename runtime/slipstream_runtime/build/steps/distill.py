"""Distillation: training of a smaller student on its teacher, by TRL."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from slipstream_runtime import build_support
from slipstream_runtime.build import decoders, shapes
from slipstream_runtime.build.recipe import Distill, Shape, Step
from slipstream_runtime.build.steps.step import Checkpoint, Context, Estimate

_TRAINED: Final = 16
"""Bytes per parameter of the student: weights, gradients and two moments of Adam, in float32."""
_TEACHER: Final[Mapping[build_support.Device, int]] = {"cpu": 4, "cuda": 2}
"""Bytes per parameter of the teacher, which is only asked."""
_LOGITS: Final = 24
"""Bytes per token and entry of the vocabulary: logits and their logarithms of both models, and two gradients."""


def refuse(step: Step, source: Checkpoint, device: build_support.Device) -> str | None:
    """Return the reason why the student can't be trained here."""
    wanted = _wanted(step)
    if reason := decoders.refusal("distill", source.config):
        return reason
    if reason := shapes.unsupported(source.config):
        return f"distill: can't work because {reason}."
    if wanted.speculator is not None:
        return _refuse_speculator(wanted, device)
    if wanted.training.dataset.task is not None:
        return (
            f'distill.training.dataset.task: "{wanted.training.dataset.task}" can\'t work because a task scores'
            " answers and has no training items. Use uri."
        )
    if isinstance(wanted.student, Shape):
        return _refuse_shape(wanted.student, source)
    return None


def _refuse_speculator(wanted: Distill, device: build_support.Device) -> str:
    if device == "cpu":
        return (
            f'distill.speculator: "{wanted.speculator}" can\'t work because the library speculators trains on GPUs'
            " only. Leave it out to train a whole draft model."
        )
    return (
        f"distill.speculator: \"{wanted.speculator}\" can't work because the builder's image lacks the library"
        " speculators, whose pins clash with llm-compressor's. Leave it out to train a whole draft model."
    )


def _refuse_shape(shape: Shape, source: Checkpoint) -> str | None:
    sizes = shapes.shape(source.config)
    for name, value, most in (
        ("layers", shape.layers, sizes.layers),
        ("hidden", shape.hidden, sizes.hidden),
    ):
        if value is not None and value > most:
            return (
                f'distill.student.{name}: "{value}" can\'t work because the teacher has {most}.'
                f" Use at most {most}."
            )
    if shape.layers == sizes.layers and shape.hidden in (None, sizes.hidden):
        return (
            f'distill.student.layers: "{shape.layers}" can\'t work because the student would be as large as'
            " its teacher. Use fewer layers, or a smaller hidden."
        )
    if shape.hidden is not None and not decoders.groups(source.config, shape.hidden):
        return (
            f'distill.student.hidden: "{shape.hidden}" can\'t work because no number of heads divides it.'
            " Leave it out."
        )
    if shape.hidden is not None and shape.hidden % decoders.MULTIPLE:
        return (
            f'distill.student.hidden: "{shape.hidden}" can\'t work because it is no multiple of'
            f" {decoders.MULTIPLE}. Use {max(1, shape.hidden // decoders.MULTIPLE) * decoders.MULTIPLE}."
        )
    return None


def estimate(step: Step, source: Checkpoint, device: build_support.Device) -> Estimate:
    """Return the cost: weights of both models, moments of Adam, and logits of one pass.

    Time is 6 operations per token and parameter of the student, and 2 of the teacher. A student by URI counts like
    its teacher, because its size is not known yet.
    """
    wanted, sizes = _wanted(step), shapes.shape(source.config)
    smaller = _parameters(wanted.student, source)
    one_pass = min(wanted.training.batch * wanted.training.max_length, decoders.TOKENS)
    memory = (
        shapes.LIBRARIES
        + source.parameters * _TEACHER[device]
        + smaller * _TRAINED
        + one_pass * sizes.vocabulary * _LOGITS
    )
    items = wanted.training.samples or shapes.SAMPLES
    tokens = items * wanted.training.max_length * wanted.training.epochs
    operations = tokens * (6 * smaller + 2 * source.parameters)
    # NB: two checkpoints of weights and moments in float32, while the newer one is written.
    disk = 2 * 12 * smaller + 4 * smaller
    return Estimate(memory=memory, disk=disk, seconds=30 + operations / shapes.FLOPS[device])


def _parameters(wanted: Shape | str, source: Checkpoint) -> int:
    if isinstance(wanted, str):
        return source.parameters
    sizes = shapes.shape(source.config)
    width = (wanted.hidden or sizes.hidden) / sizes.hidden
    embeddings = min(source.parameters, sizes.embedding)
    blocks = (source.parameters - embeddings) * width**2 * wanted.layers / sizes.layers
    return round(embeddings * width + blocks)


def run(step: Step, source: Path, target: Path, context: Context) -> Mapping[str, Any]:
    """Train the student and write it with the teacher's tokenizer and chat template."""
    import torch

    from slipstream_runtime.build import libraries

    libraries.quiet()
    from slipstream_runtime.build import distillation, models, training

    wanted = _wanted(step)
    torch.manual_seed(context.seed)
    student, files = distillation.student(wanted.student, source, context)
    distillation.check_vocabulary(files, source)
    dtype = models.config(source).get("dtype") or models.config(source).get("torch_dtype")
    teacher = models.load(source, dtype="float32" if context.device == "cpu" else "bfloat16")
    lesson = distillation.Lesson(
        student=student,
        teacher=teacher.requires_grad_(False).to(context.device),
        tokenizer=models.tokenizer(source),
        step=wanted,
        context=context,
    )
    facts = lesson.run()
    student.config.use_cache = True  # which TRL switches off
    models.save(student.to(device="cpu", dtype=getattr(torch, dtype or "float32")), files, target)
    training.clear(context.training)
    return {**facts, "parameters": student.num_parameters(), "of": teacher.num_parameters()}


def _wanted(step: Step) -> Distill:
    assert step.distill is not None
    return step.distill
