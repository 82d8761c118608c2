"""Plan of a build: memory, disk and time of each step, or the reason why it can't run. Pure."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from slipstream_runtime import build_support, contract
from slipstream_runtime.build import succession
from slipstream_runtime.build.recipe import Recipe
from slipstream_runtime.build.steps.step import Checkpoint, Module
from slipstream_runtime.errors import UnsuitableError
from slipstream_runtime.model_files.space import size

_PROCESS_BYTES: Final = 1 << 30
"""Bytes of a process that imported PyTorch and transformers, on CPUs; 0.85 to 1.1 GB were measured."""


@dataclass(frozen=True, slots=True)
class Machine:
    """Room for a build; None is unknown."""

    memory: int | None
    """Bytes of the accelerator, or of the container on CPUs."""
    disk: int | None
    """Free bytes of the working folder."""


@dataclass(frozen=True, slots=True)
class StagePlan:
    """Expected cost of one stage; None is unknown."""

    stage: str
    memory: int | None
    disk: int
    seconds: float | None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """Expected cost of a build."""

    stages: tuple[StagePlan, ...]
    source: Checkpoint

    @property
    def memory(self) -> int:
        """Peak bytes of memory."""
        return max((stage.memory or 0 for stage in self.stages), default=0)

    @property
    def disk(self) -> int:
        """Bytes of disk. Finished checkpoints stay until the artifact is published."""
        return sum(stage.disk for stage in self.stages)

    @property
    def seconds(self) -> float:
        """Seconds of all steps. Those of other stages are unknown."""
        return sum(stage.seconds or 0.0 for stage in self.stages)

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "source": {"bytes": self.source.bytes, "parameters": self.source.parameters},
            "stages": [
                {
                    "stage": stage.stage,
                    "memory": stage.memory,
                    "disk": stage.disk,
                    "seconds": None if stage.seconds is None else round(stage.seconds, 1),
                    **({} if stage.note is None else {"note": stage.note}),
                }
                for stage in self.stages
            ],
            **self.estimate(),
        }

    def estimate(self) -> dict[str, Any]:
        """Return the totals as plain data."""
        return {"memory": self.memory, "disk": self.disk, "seconds": round(self.seconds, 1)}


def plan(
    recipe: Recipe,
    source: Checkpoint,
    *,
    machine: Machine,
    module: Callable[[str], Module],
    download: int = 0,
    only: int | None = None,
) -> Plan:
    """Return the plan of all steps, or of the step `only`; UnsuitableError if one of them can't run.

    `source` describes the checkpoint that the first of them reads. A later step is planned with the shape that the
    steps before leave, and with the same size, which is an upper bound. `download` are the bytes of the source that are
    still to be fetched.
    """
    kinds = [step.kind for step in recipe.steps]
    if reason := build_support.order_refusal(kinds):
        raise UnsuitableError(f"spec.steps: {reason}.")
    if reason := _quality_refusal(recipe, source):
        raise UnsuitableError(f"spec.{reason}.")
    stages = [StagePlan(contract.SOURCE_STAGE, None, download, None)] if download else []
    for index, step in enumerate(recipe.steps):
        if only not in (None, index):
            continue
        checkpoint = _before(recipe, source, index) if only is None else source
        found = module(step.kind)
        reason = found.refuse(step, checkpoint, recipe.device) or _sparse_refusal(recipe, index)
        if reason:
            raise UnsuitableError(f"spec.steps[{index}].{reason}")
        cost = found.estimate(step, checkpoint, recipe.device)
        stages.append(
            StagePlan(
                contract.step_stage(index, step.kind),
                cost.memory,
                cost.disk,
                cost.seconds,
                cost.note,
            )
        )
        if recipe.quality is not None and step.kind != contract.EXPORT:
            # One model at a time is in memory. Seconds depend on the length of the answers.
            memory = source.bytes + (_PROCESS_BYTES if recipe.device == "cpu" else 0)
            stages.append(StagePlan(contract.quality_stage(index), memory, 0, None))
    if only is None and recipe.output.uri.startswith("oci://"):
        stages.append(StagePlan(contract.PUBLISH_STAGE, None, source.bytes, None))
    made = Plan(tuple(stages), source)
    _check(made, machine, device=recipe.device)
    return made


def _before(recipe: Recipe, source: Checkpoint, index: int) -> Checkpoint:
    """Return what is known of the checkpoint that a step reads, before the steps before it have run."""
    for step in recipe.steps[:index]:
        source = succession.after(step, source)
    return source


def _sparse_refusal(recipe: Recipe, index: int) -> str | None:
    """Return the reason why a step would undo the one before it, after its field; None if it does not."""
    wanted = recipe.steps[index].quantize
    before = recipe.steps[index - 1].sparsify if index else None
    if wanted is None or before is None:
        return None
    reason = build_support.sparse_refusal(before.pattern, wanted.method)
    return f'quantize.method: "{wanted.method}" can\'t work because {reason}.' if reason else None


def _quality_refusal(recipe: Recipe, source: Checkpoint) -> str | None:
    """Return the reason why the answers can't be evaluated, after its field; None if they can."""
    quality = recipe.quality
    if quality is None:
        return None
    drafts = [
        number
        for number, step in enumerate(recipe.steps)
        if step.distill is not None and step.distill.purpose == "Draft"
    ]
    if reason := build_support.quality_refusal(
        [step.kind for step in recipe.steps],
        draft=min(drafts, default=None),
        metrics=bool(quality.metrics),
        regression=any(metric.max_regression is not None for metric in quality.metrics),
        task=quality.dataset.task is not None,
        acceptance=quality.min_acceptance is not None,
    ):
        return reason
    if quality.metrics and quality.dataset.task is not None:
        return "quality.metrics: can't work because a task has its own metrics. Leave metrics out"
    if quality.max_regression is not None and quality.dataset.task is None:
        return "quality.maxRegression: is for a task of lm-evaluation-harness. Use metrics[].maxRegression"
    names = [metric.name for metric in quality.metrics]
    if twice := next((name for name in names if names.count(name) > 1), None):
        return f'quality.metrics: "{twice}" is listed twice. List it once'
    architecture = next(iter(source.config.get("architectures") or ()), "")
    if architecture and not architecture.endswith("ForCausalLM"):
        return (
            f'quality: can\'t work because "{architecture}" gives no answers in text. Leave quality out, or use a '
            "source of a ...ForCausalLM architecture"
        )
    return None


def _check(made: Plan, machine: Machine, *, device: build_support.Device) -> None:
    if machine.memory is not None:
        for stage in made.stages:
            if stage.memory is not None and stage.memory > machine.memory:
                holder = "the container" if device == "cpu" else "the accelerator"
                remedy = (
                    "a higher memory limit in spec.resources"
                    if device == "cpu"
                    else "an accelerator with more memory in spec.accelerator"
                )
                raise UnsuitableError(
                    f"{stage.stage}: it needs about {size(stage.memory)} of memory, and {holder} has "
                    f"{size(machine.memory)}. Use {remedy}, or a smaller batch or maxLength."
                )
    if machine.disk is not None and made.disk > machine.disk:
        raise UnsuitableError(
            f"spec.workspace: the build needs about {size(made.disk)} of disk, and {size(machine.disk)} are free. Use "
            "a larger claim in spec.workspace.claim."
        )
