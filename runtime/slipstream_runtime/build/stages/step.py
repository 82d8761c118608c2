"""Stage of one step: plan it with the checkpoint that it really gets, run it, check and keep what it made."""

import random
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import numpy as np

from slipstream_runtime import contract
from slipstream_runtime.build import facts, inputs, plan, workspace
from slipstream_runtime.build.stages.run import Run
from slipstream_runtime.build.steps import registry
from slipstream_runtime.build.steps.step import Checkpoint, Context
from slipstream_runtime.build.workspace import Record
from slipstream_runtime.errors import EngineError, UnsuitableError
from slipstream_runtime.model_files import sources

_GRAPH: Final = ".onnx"
_NOT_CARRIED: Final = (*facts.WEIGHTS, ".gguf", ".onnx", ".index.json", "recipe.yaml")
"""Endings of files that describe the source's weights, so a step's checkpoint doesn't get them."""


def run(run: Run, index: int) -> Record:
    """Run the step."""
    recipe, step = run.recipe, run.recipe.steps[index]
    module = registry.module(step.kind)
    before = run.before(index)
    assert before.folder is not None
    source = facts.stored(recipe.source, before.folder)
    plan.plan(recipe, source, machine=run.machine(), module=registry.module, only=index)
    _seed(recipe.seed)
    known = run.source.facts["datasets"]
    context = Context(
        device=recipe.device,
        seed=recipe.seed,
        items=lambda wanted: inputs.load(recipe, wanted, known=known),
        resolve=lambda uri: _resolved(uri, recipe.cache),
        training=run.workspace.training(run.stage),
        progress=run.progress.step,
    )
    with run.workspace.new_checkpoint(run.stage) as part:
        found = dict(module.run(step, before.folder, part, context))
        made = _check(run.stage, part, exported=step.kind == contract.EXPORT)
        for checkpoint in (before, run.source):
            assert checkpoint.folder is not None
            carry(checkpoint.folder, checkpoint.files, part)
        files = workspace.entries(part, workspace.names(part))
    run.workspace.forget_training(run.stage)
    if made is not None:
        found |= {"parameters": made.parameters}
        run.progress.size(made.bytes)
    return Record(
        stage=run.stage,
        folder=run.workspace.checkpoint(run.stage),
        files=files,
        facts=found,
        report={"facts": found},
    )


def _resolved(uri: str, cache: Path) -> Path:
    """Return the folder of a checkpoint that a step reads beside its source, such as a student's."""
    source = sources.parse(uri)
    folder = sources.resolve(source, cache=cache, token=sources.token())
    facts.check_links(source, folder, facts.files(folder))
    return folder


def _seed(seed: int) -> None:
    """Seed the generators of Python, NumPy and PyTorch, on which libraries draw."""
    import torch  # noqa: PLC0415

    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def carry(folder: Path, names: Iterable[str], part: Path) -> None:
    """Copy the files that a step left out and that don't depend on weights, such as the tokenizer and the license."""
    for name in names:
        if name.endswith(_NOT_CARRIED) or name == contract.BUILD_MANIFEST:
            continue
        target = part / name
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / name, target)


def _check(stage: str, part: Path, *, exported: bool) -> Checkpoint | None:
    """Return the facts about what the step made; EngineError if it is not whole."""
    names = workspace.names(part)
    empty = [name for name in names if not (part / name).stat().st_size and _is_weights(name)]
    if empty or not any(_is_weights(name) for name in names):
        problem = f"{empty[0]} is empty" if empty else "it has no weights"
        raise EngineError(
            f"{stage}: the step's output is not whole: {problem}. Run the build again; if it happens again, report it "
            "with the step's log."
        )
    if exported:
        return None
    try:
        return facts.stored(stage, part)
    except UnsuitableError as error:
        raise EngineError(
            f"{stage}: the step's output is not whole: {error}. Run the build again; if it happens again, report it "
            "with the step's log."
        ) from error


def _is_weights(name: str) -> bool:
    return name.endswith((*facts.WEIGHTS, _GRAPH))
