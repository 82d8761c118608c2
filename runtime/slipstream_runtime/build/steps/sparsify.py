"""Pruning of single weights: the checkpoint stays dense and stores zeros."""

import dataclasses
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from slipstream_runtime import build_support
from slipstream_runtime.build import libraries, shapes, texts, wording
from slipstream_runtime.build.recipe import Sparsify, Step
from slipstream_runtime.build.steps.step import Checkpoint, Context, Estimate, Tick
from slipstream_runtime.errors import EngineError

_PRUNED: Final = "pruned"
"""Folder of the pruned checkpoint while it is healed; a killed run goes on with it."""


def refuse(step: Step, source: Checkpoint, device: build_support.Device) -> str | None:
    """Return the reason why the checkpoint can't be pruned this way."""
    part = _part(step)
    if reason := build_support.sparsity_refusal(part.pattern, part.method):
        return f'sparsify.method: "{part.method}" can\'t work because {reason}.'
    if part.pattern == "2of4" and part.sparsity != 0.5:
        return (
            f'sparsify.sparsity: "{wording.percent(part.sparsity)}" can\'t work because 2of4 is always 50 %.'
            " Leave it out, or use unstructured."
        )
    if part.calibration is None and part.method != "magnitude":
        return (
            f'sparsify.calibration: "" can\'t work because {part.method} measures activations. Name a dataset,'
            " or use magnitude with unstructured."
        )
    if reason := shapes.unsupported(source.config):
        return f'sparsify.pattern: "{part.pattern}" can\'t work because {reason}.'
    if shapes.experts(source.config):
        return (
            f'sparsify.pattern: "{part.pattern}" can\'t work because zeros of experts are not offered.'
            " Use a source without experts."
        )
    wrong = part.pattern == "2of4" and shapes.indivisible(source.config, 4, ())
    if wrong:
        return (
            f'sparsify.pattern: "2of4" can\'t work because 4 does not divide {wrong}, the number of inputs of a'
            " linear layer. Use unstructured."
        )
    return None


def estimate(step: Step, source: Checkpoint, device: build_support.Device) -> Estimate:
    """Return the expected cost of pruning and of healing; `shapes` and `training` state the formulas."""
    part = _part(step)
    pruning = shapes.compression_cost(
        source,
        device,
        samples=shapes.samples(part.calibration if part.method != "magnitude" else None),
        hessians=part.method == "sparsegpt",
        calibrations=1,
        result=source.bytes,
    )
    cost = (
        pruning
        if part.heal is None
        else shapes.cost_with_training(pruning, part.heal, source, device)
    )
    return dataclasses.replace(cost, note=build_support.sparsity_note(part.pattern))


def run(step: Step, source: Path, target: Path, context: Context) -> Mapping[str, Any]:
    """Write the pruned checkpoint, healed if the step asks for it."""
    libraries.quiet()
    from slipstream_runtime.build import training

    part = _part(step)
    if part.heal is None:
        _prune(part, source, target, context, report=context.progress)
        return _facts(part, target)
    pruned = context.training / _PRUNED
    first, second = training.halves(context.progress)
    if not pruned.exists():
        half = context.training / f".{_PRUNED}"
        shutil.rmtree(half, ignore_errors=True)
        half.mkdir(parents=True)
        _prune(part, source, half, context, report=first)
        training.settle(half, pruned)
    healed = training.Healing(part.heal, keep_zeros=True).run(
        pruned, source, target, context, report=second
    )
    return _facts(part, target) | dict(healed)


def _prune(
    part: Sparsify, source: Path, target: Path, context: Context, *, report: Callable[[Tick], None]
) -> None:
    from slipstream_runtime.build import compression, models

    model = models.load(source)
    if part.method == "magnitude":
        _magnitude(compression.linears(model), part.sparsity, report=report)
    else:
        assert part.calibration is not None
        samples = texts.tokenize(
            models.tokenizer(source),
            context.items(part.calibration),
            max_length=part.calibration.max_length,
        )
        compression.compress(
            model, [_modifier(part, compression.outside(model))], samples, report=report
        )
    models.save(model, source, target)


def _magnitude(layers: Mapping[str, Any], share: float, *, report: Callable[[Tick], None]) -> None:
    """Set the smallest weights of each linear layer to zero."""
    from torch.nn.utils import prune

    for done, layer in enumerate(layers.values(), start=1):
        prune.l1_unstructured(layer, "weight", amount=share)
        prune.remove(layer, "weight")
        report(Tick(done, len(layers)))


def _modifier(part: Sparsify, ignored: Sequence[str]) -> Any:
    from llmcompressor.modifiers.pruning.sparsegpt import SparseGPTModifier
    from llmcompressor.modifiers.pruning.wanda import WandaPruningModifier

    kind = SparseGPTModifier if part.method == "sparsegpt" else WandaPruningModifier
    return kind(
        sparsity=part.sparsity,
        mask_structure="2:4" if part.pattern == "2of4" else "0:0",
        targets=["Linear"],
        ignore=list(ignored),
    )


def _facts(part: Sparsify, target: Path) -> dict[str, Any]:
    """Count the zeros of the written file; EngineError if they are not what the step promises."""
    from slipstream_runtime.build import compression, models, zeros

    found = zeros.count(compression.linears(models.load(target)))
    if part.pattern == "2of4" and not found.two_of_four:
        raise EngineError(
            f"sparsify: {found.groups - found.groups_of_two} of {found.groups} groups of 4 weights have less than"
            " 2 zeros after the step."
        )
    return {
        "pattern": part.pattern,
        "method": part.method,
        "zeros": round(found.share, 4),
        "groupsOfFour": found.groups if part.pattern == "2of4" else None,
        "speedup": build_support.SPEEDUP,
        "why": build_support.speedup_reason(part.pattern),
    }


def _part(step: Step) -> Sparsify:
    assert step.sparsify is not None
    return step.sparsify
