"""Stage that evaluates a step's checkpoint against the source. The last one decides whether anything is published."""

import asyncio
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from slipstream_runtime import contract
from slipstream_runtime.build import inputs, libraries
from slipstream_runtime.build.recipe import Quality, Recipe
from slipstream_runtime.build.stages.run import Run
from slipstream_runtime.build.steps.step import Tick
from slipstream_runtime.build.workspace import Record, listing
from slipstream_runtime.errors import UnsuitableError
from slipstream_runtime.evaluate.quality import datasets
from slipstream_runtime.evaluate.quality import run as evaluation
from slipstream_runtime.evaluate.quality.config import Model, QualityConfig
from slipstream_runtime.evaluate.quality.observations import Subject
from slipstream_runtime.evaluate.quality.report import Report, explain, percent
from slipstream_runtime.evaluate.quality.scores import Result
from slipstream_runtime.evaluate.quality.statistics import Verdict
from slipstream_runtime.model_files import sources

MEASURED: Final = "Measured"
"""Verdict of an evaluation without a greatest loss."""


class RejectedError(UnsuitableError):
    """Verdict for which nothing is published. Its report is the termination message."""

    def __init__(self, report: Mapping[str, Any], reason: str) -> None:
        super().__init__(reason)
        self.report: Mapping[str, Any] = report


def run(run: Run, index: int) -> Record:
    """Evaluate the checkpoint of the step; RejectedError if it is the last one and did not pass."""
    recipe = run.recipe
    assert recipe.quality is not None
    source = run.source
    candidate = run.needed(contract.step_stage(index, recipe.steps[index].kind))
    assert source.folder is not None and candidate.folder is not None
    run.progress.size(candidate.bytes)
    if is_draft(recipe, index):
        report, reason = _draft(run, recipe.quality, source.folder, candidate.folder)
    else:
        report, reason = _answers(run, recipe.quality, source, candidate)
    if reason and index == last(recipe):
        raise RejectedError(report, reason)
    return Record(stage=run.stage, facts=dict(report), report=dict(report))


def is_draft(recipe: Recipe, index: int) -> bool:
    """Whether the checkpoint after this step is a draft model."""
    return any(
        step.distill is not None and step.distill.purpose == "Draft"
        for step in recipe.steps[: index + 1]
    )


def last(recipe: Recipe) -> int:
    """Return the number of the last step that is evaluated."""
    return max(i for i, step in enumerate(recipe.steps) if step.kind != contract.EXPORT)


def _answers(
    run: Run, quality: Quality, source: Record, candidate: Record
) -> tuple[dict[str, Any], str | None]:
    """Return the report on the answers, and why they did not pass."""
    config = QualityConfig(
        candidate=Model(path=str(candidate.folder), identity=listing(candidate.files)),
        baseline=Model(path=str(source.folder), identity=listing(source.files)),
        dataset=quality.dataset,
        metrics=quality.metrics,
        max_regression=quality.max_regression,
        max_items=quality.max_items,
        seed=run.recipe.seed,
        max_tokens=quality.max_tokens,
        chat=quality.chat,
        output=run.workspace.quality,
    )
    done: dict[str, tuple[int, int]] = {}

    def progress(role: str, finished: int, total: int) -> None:
        done[role] = (finished, total)
        # NB: both models answer the same questions, and the second starts when the first has finished.
        first = max(total for _, total in done.values())
        run.progress.count(
            Tick(sum(finished for finished, _ in done.values()), 2 * first), unit="answers"
        )

    def load(model: Model) -> Subject:
        libraries.quiet()
        from slipstream_runtime.evaluate.quality.checkpoint import Checkpoint  # noqa: PLC0415

        assert model.path is not None
        return Checkpoint(Path(model.path), batch=config.concurrency)

    found = asyncio.run(
        evaluation.run(config, cache=run.recipe.cache, load=load, progress=progress)
    )
    if found.sha256 is not None:
        inputs.check_hash(run.recipe, quality.dataset, found.sha256, source.facts["datasets"])
    return summary(found)


def summary(found: Report) -> tuple[dict[str, Any], str | None]:
    """Return the report of the stage, and why the answers did not pass. Pure."""
    needed = [result.items_needed for result in found.results if result.items_needed is not None]
    report = {
        "verdict": str(found.verdict or MEASURED),
        "metrics": [_metric(result) for result in found.results],
        "items": found.items,
        "needed": max(needed, default=None),
    }
    if found.verdict in (None, Verdict.PASSED):
        return report, None
    lines = [
        line
        for result in found.results
        if result.verdict is found.verdict and (line := explain(result))
    ]
    return report, " ".join(lines)


def _metric(result: Result) -> dict[str, Any]:
    score = result.total
    loss = score.comparison.loss if score.comparison else None
    return {
        "name": result.name,
        "candidate": _rounded(score.candidate.estimate if score.candidate else None),
        "baseline": _rounded(score.baseline.estimate if score.baseline else None),
        "lossLow": _rounded(loss.low if loss else None),
        "lossHigh": _rounded(loss.high if loss else None),
        "verdict": str(result.verdict or MEASURED),
    }


def _rounded(value: float | None) -> float | None:
    """Return the value with as many digits as a status shows; None if it is not finite."""
    return None if value is None or not math.isfinite(value) else round(value, 6)


def _draft(
    run: Run, quality: Quality, target: Path, draft: Path
) -> tuple[dict[str, Any], str | None]:
    """Return the report on accepted tokens, and why they are too few."""
    # NB: the engine's image runs this stage; the builder's lacks vLLM.
    from slipstream_runtime.build import acceptance  # noqa: PLC0415

    recipe = run.recipe
    loaded = datasets.load(
        quality.dataset, cache=recipe.cache, most=quality.max_items, seed=recipe.seed
    )
    inputs.check_hash(recipe, quality.dataset, loaded.sha256, run.source.facts["datasets"])
    distill = next(
        step.distill
        for step in recipe.steps
        if step.distill is not None and step.distill.purpose == "Draft"
    )
    student = distill.student
    drafts = {"candidate": draft}
    if isinstance(student, str):
        source = sources.parse(student)
        drafts["baseline"] = sources.resolve(source, cache=recipe.cache, token=sources.token())
    found = {}
    for number, (role, folder) in enumerate(drafts.items()):
        run.progress.count(Tick(number, len(drafts)), unit="drafts")
        # The student is an ordinary model before it is trained, whatever it becomes.
        trained = distill.speculator is not None and role == "candidate"
        found[role] = acceptance.measure(
            target,
            folder,
            loaded.items,
            acceptance.Speculation(
                device=recipe.device,
                method="eagle3" if trained else "draft_model",
                max_tokens=quality.max_tokens,
                seed=recipe.seed,
            ),
        )
    share = found["candidate"].acceptance
    before = found.get("baseline")
    report = {
        "acceptance": _rounded(share),
        "tokensPerStep": _rounded(found["candidate"].tokens_per_step),
        "baselineTokensPerStep": _rounded(before.tokens_per_step if before else None),
        "items": len(loaded.items),
    }
    least = quality.min_acceptance
    if least is None or share >= least:
        return {"verdict": MEASURED if least is None else str(Verdict.PASSED), **report}, None
    reason = (
        f"spec.quality.minAcceptance: the target accepts {percent(share)} of the draft's tokens, less than "
        f"{percent(least)}. Train on more of the target's answers, or for more epochs."
    )
    return {"verdict": str(Verdict.FAILED), **report}, reason
