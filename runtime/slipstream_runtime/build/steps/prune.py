"""Structured pruning: whole layers, heads or channels, chosen by what the model loses without them."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from slipstream_runtime import build_support
from slipstream_runtime.build import decoders, shapes, wording
from slipstream_runtime.build.recipe import Prune, Step
from slipstream_runtime.build.steps.step import Checkpoint, Context, Estimate, Tick
from slipstream_runtime.errors import UnsuitableError

_PRUNED: Final = "pruned"
"""Folder of the pruned checkpoint that a killed run heals further."""
_PARTS: Final = ("layers", "heads", "channels")


def refuse(step: Step, source: Checkpoint, device: build_support.Device) -> str | None:
    """Return the reason why nothing can be pruned here."""
    wanted = _wanted(step)
    if reason := decoders.refusal("prune", source.config):
        return reason
    if reason := shapes.unsupported(source.config):
        return f"prune: can't work because {reason}."
    given = [name for name in _PARTS if getattr(wanted, name) is not None]
    if len(given) != 1:
        return (
            f"prune: {' and '.join(given) or 'nothing'} can't be pruned in one step."
            " Give exactly one of layers, heads and channels."
        )
    for name, samples in (("calibration", wanted.calibration), ("heal", wanted.heal)):
        if samples is not None and samples.dataset.task is not None:
            return (
                f'prune.{name}.dataset.task: "{samples.dataset.task}" can\'t work because a task scores answers and'
                " has no training items. Use uri."
            )
    return _refuse_share(given[0], getattr(wanted, given[0]), source)


def _refuse_share(name: str, share: float, source: Checkpoint) -> str | None:
    count = _count(name, source.config)
    if kept(count, share, name) < count:
        return _refuse_heads(share, source.config) if name == "heads" else None
    what = {"layers": "layers", "heads": "groups of heads", "channels": "channels"}[name]
    return (
        f'prune.{name}: "{wording.percent(share)}" removes nothing because the model has {count} {what}'
        f" and at least one stays. Use a greater share, or prune another part."
    )


def _refuse_heads(share: float, config: Mapping[str, Any]) -> str | None:
    sizes = shapes.shape(config)
    count, possible = sizes.key_value_heads, decoders.groups(config, sizes.hidden)
    stay = kept(count, share, "heads")
    if stay in possible:
        return None
    others = [f"{100 * (1 - groups / count):.4g}%" for groups in possible if groups < count]
    remedy = f"Use {' or '.join(others)}" if others else "Prune layers or channels"
    return (
        f'prune.heads: "{wording.percent(share)}" can\'t work because the {stay * sizes.heads // count} heads that stay'
        f" don't divide the width of {sizes.hidden}, as transformers requires of {config.get('model_type')}. {remedy}."
    )


def kept(count: int, share: float, name: str) -> int:
    """Return the number of parts that stay: at least one, and a multiple of 32 channels."""
    exact = count * (1 - share)
    if name == "channels":
        return max(1, round(exact / decoders.MULTIPLE)) * decoders.MULTIPLE
    return max(1, round(exact))


def _count(name: str, config: Mapping[str, Any]) -> int:
    sizes = shapes.shape(config)
    return {
        "layers": sizes.layers,
        "heads": sizes.key_value_heads,
        "channels": sizes.inner,
    }[name]


def estimate(step: Step, source: Checkpoint, device: build_support.Device) -> Estimate:
    """Return the cost of the measurement, and of healing.

    Weights are in float32, with gradients for heads and channels. A forward pass takes 2 operations a parameter and
    token. Layers need one pass for each of them, heads and channels one pass with gradients, which costs 6.
    """
    wanted = _wanted(step)
    samples, length = shapes.samples(wanted.calibration)
    layers = wanted.layers is not None
    each = 2.0 * shapes.shape(source.config).layers if layers else 6.0
    measured = Estimate(
        memory=shapes.LIBRARIES + source.parameters * (8 if layers else 12),
        disk=source.bytes,
        seconds=20 + each * source.parameters * samples * length / shapes.FLOPS[device],
    )
    if wanted.heal is None:
        return measured
    return shapes.cost_with_training(measured, wanted.heal, source, device)


def run(step: Step, source: Path, target: Path, context: Context) -> Mapping[str, Any]:
    """Write the smaller checkpoint, healed if the step asks for it."""
    from slipstream_runtime.build import libraries, training

    libraries.quiet()
    wanted = _wanted(step)
    if wanted.heal is None:
        return _prune(wanted, source, target, context, report=context.progress)
    pruned, facts = context.training / _PRUNED, context.training / "pruned.json"
    first, second = training.halves(context.progress)
    if not pruned.exists():
        half = context.training / f".{_PRUNED}"
        shutil.rmtree(half, ignore_errors=True)
        half.mkdir(parents=True)
        facts.write_text(json.dumps(_prune(wanted, source, half, context, report=first)))
        training.settle(half, pruned)
    healed = training.Healing(wanted.heal, keep_zeros=False).run(
        pruned, source, target, context, report=second
    )
    return {**json.loads(facts.read_text()), **healed}


def _prune(
    wanted: Prune, source: Path, target: Path, context: Context, *, report: Callable[[Tick], None]
) -> dict[str, Any]:
    """Measure, cut and write the checkpoint; return what stayed, and what was measured."""
    import torch

    from slipstream_runtime.build import importance, models, structure, texts

    model = models.load(source, dtype="float32")
    model.set_attn_implementation("eager")
    samples = texts.tokenize(
        models.tokenizer(source),
        context.items(wanted.calibration),
        max_length=wanted.calibration.max_length,
    )
    if not any(len(one.ids) > max(1, one.answer) for one in samples):
        raise UnsuitableError(
            f'prune.calibration.maxLength: "{wanted.calibration.max_length}" leaves no token of an answer, by which'
            " importance is measured. Use a greater length."
        )
    name = next(name for name in _PARTS if getattr(wanted, name) is not None)
    stay = kept(_count(name, models.config(source)), getattr(wanted, name), name)
    before = model.num_parameters()
    measure = {
        "layers": importance.of_layers,
        "heads": importance.of_heads,
        "channels": importance.of_channels,
    }[name]
    found: Any = measure(
        model.to(context.device), samples, report=lambda done, total: report(Tick(done, total))
    )
    model.to("cpu")
    if name == "layers":
        places = decoders.best(found, stay)
        structure.keep_layers(model, places)
    else:
        cut = structure.cut_heads if name == "heads" else structure.cut_channels
        cut(model, [decoders.best(row, stay) for row in found])
    made = structure.rebuilt(model)
    dtype = models.config(source).get("dtype") or models.config(source).get("torch_dtype")
    models.save(made.to(getattr(torch, dtype or "float32")), source, target)
    return {
        "pruned": name,
        "kept": stay,
        "of": _count(name, models.config(source)),
        "parametersBefore": before,
        **({"layersKept": places, "lossWithout": _rounded(found)} if name == "layers" else {}),
    }


def _rounded(values: list[float]) -> list[float]:
    return [round(value, 4) for value in values]


def _wanted(step: Step) -> Prune:
    assert step.prune is not None
    return step.prune
