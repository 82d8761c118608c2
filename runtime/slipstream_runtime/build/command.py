"""Run of one stage from its configuration to its termination report."""

import json
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from slipstream_runtime import config_file, contract, errors, logs
from slipstream_runtime.build import comparison, inputs, manifest, report, wording, workspace
from slipstream_runtime.build.manifest import Manifest
from slipstream_runtime.build.progress import Progress, peak_memory
from slipstream_runtime.build.publishing import places
from slipstream_runtime.build.publishing.folders import Folder
from slipstream_runtime.build.recipe import Recipe
from slipstream_runtime.build.stages import publish, quality, source, step
from slipstream_runtime.build.stages.run import Run, free
from slipstream_runtime.build.workspace import Record, Workspace
from slipstream_runtime.errors import EngineError, UnsuitableError
from slipstream_runtime.model_files import network, sources

_FULL: Final = "the disk is full"
_QUOTA: Final = "the disk quota is used up"
_LEFT: Final = 1 << 20
"""Free bytes below which a failure is that of a full disk. PyTorch does not say why it can't write."""
_NO_MEMORY: Final = re.compile("can't allocate memory|bad_alloc|out ?of ?memory|ALLOC_FAILED", re.I)
"""Messages of PyTorch, ONNX Runtime and C++ about memory."""


def plan(file: Path) -> int:
    """Print the plan of the build as JSON, and return the exit code."""
    try:
        recipe = config_file.load(file, Recipe)
        run = _run(recipe, contract.SOURCE_STAGE, Progress("plan", clock=time.monotonic))
        found = source.plan(run)
        checked = inputs.check(run.recipe, skip_missing=True)
    except Exception as error:
        reason, code = _explain(error, "plan")
        sys.stderr.write(f"{reason}\n")
        return code
    json.dump({**found.as_json(), "notes": list(checked.notes)}, sys.stdout)
    sys.stdout.write("\n")
    return 0


def compare(uris: Sequence[str], *, plain_http: bool) -> int:
    """Print the differences of two artifacts as JSON, and return the exit code: 1 if they differ."""
    try:
        first, second = (_artifact(uri, plain_http=plain_http) for uri in uris)
    except Exception as error:
        sys.stderr.write(f"{_explain(error, 'compare')[0]}\n")
        return UnsuitableError.exit_code
    found = comparison.compare(first, second)
    json.dump(found, sys.stdout)
    sys.stdout.write("\n")
    return 0 if found["equal"] else 1


def _artifact(uri: str, *, plain_http: bool) -> Manifest:
    """Return the manifest of an artifact. The files of a folder are hashed, because they may have changed since."""
    target = places.at(uri, plain_http=plain_http, owner="", layer=Path())
    # NB: a place that is to be written makes its parents, and a comparison only reads.
    if isinstance(target, Folder) and not (target.path / contract.BUILD_MANIFEST).is_file():
        found = None
    else:
        found = target.existing()
    if found is None:
        raise UnsuitableError(f"{uri}: holds no artifact of a build. Use the place of an artifact.")
    if not isinstance(target, Folder):
        return found
    names = [name for name in workspace.names(target.path) if name != contract.BUILD_MANIFEST]
    return found.model_copy(update={"files": workspace.entries(target.path, names)})


def stage(file: Path, name: str, *, progress: Progress, termination_log: Path) -> int:
    """Run the stage, leave its report or the reason of its failure, and return the exit code."""
    work: Path | None = None
    try:
        recipe = config_file.load(file, Recipe)
        work = recipe.work
        text = report.text(_finish(_run(recipe, name, progress)), limit=_limit(recipe))
    except quality.RejectedError as error:
        # NB: a reader needs the measured losses, and the verdict in them says that the build ended.
        logs.failure("rejected", reason=error.reason)
        rejected = {"stage": name, **error.report, "reason": error.reason}
        logs.leave_reason(termination_log, report.text(rejected, limit=_limit(recipe)))
        return error.exit_code
    except BaseException as error:
        reason, code = _explain(error, name, work)
        known = isinstance(error, EngineError)
        logs.failure("failed", error=None if known else error, reason=reason)
        logs.leave_reason(termination_log, reason)
        return code
    logs.leave_reason(termination_log, text)
    logs.event("done", **progress.status())
    return 0


def _limit(recipe: Recipe) -> int:
    """Return the bytes of a report; each stage is a container of one pod."""
    kinds = [step.kind for step in recipe.steps]
    stages = contract.build_stages(kinds, evaluated=recipe.quality is not None)
    return contract.report_bytes(len(stages))


def _run(recipe: Recipe, name: str, progress: Progress) -> Run:
    recipe = recipe.model_copy(update={"cache": sources.cache_folder(recipe.cache)})
    return Run(recipe, name, Workspace(recipe.work), progress)


def _finish(run: Run) -> Mapping[str, Any]:
    """Return the report of the stage, which is run only if it has not finished before."""
    function = _function(run.recipe, run.stage)
    identity = manifest.recipe(run.recipe) | {"source": run.recipe.source}
    owner = {
        "name": run.recipe.name,
        "uid": run.recipe.uid,
        "recipe": json.dumps(identity, sort_keys=True),
    }
    with run.workspace.locked():
        run.workspace.claim(owner)
        if run.stage == contract.SOURCE_STAGE:
            run.workspace.forget_former(run.recipe.name)
        published = run.workspace.record(contract.PUBLISH_STAGE)
        if published is not None:
            return _published(run, published)
        found = run.workspace.record(run.stage)
        if found is not None and run.stage == contract.SOURCE_STAGE:
            found = source.unchanged(run, found)
        if found is not None:
            logs.event("finished before", stage=run.stage)
            return found.report
        return _new(run, function)


def _new(run: Run, function: Callable[[Run], Record]) -> Mapping[str, Any]:
    """Run the stage and keep its record."""
    before = time.monotonic()
    try:
        made = function(run)
    except quality.RejectedError as error:
        error.report = _measures(run, before) | {**error.report}
        raise
    facts = _measures(run, before)
    if size := made.facts.get("bytes", made.bytes):
        facts["bytes"] = size
    record = made.model_copy(update={"report": facts | made.report})
    if run.stage == contract.SOURCE_STAGE:
        _forget_results_of_others(run, record)
    run.workspace.keep(record)
    if run.stage == contract.PUBLISH_STAGE:
        run.workspace.clear()
    return record.report


def _forget_results_of_others(run: Run, record: Record) -> None:
    """Delete the results of all stages if they were made of another source or of other datasets."""
    former = run.workspace.former(contract.SOURCE_STAGE)
    if former is None or source.identity(former) != source.identity(record):
        run.workspace.start_again()


def _measures(run: Run, before: float) -> dict[str, Any]:
    """Return what every report says of its stage."""
    return {
        "stage": run.stage,
        "seconds": round(time.monotonic() - before, 1),
        "peakMemory": peak_memory(),
    }


def _published(run: Run, published: Record) -> Mapping[str, Any]:
    """Return the report of a stage of a published build, whose checkpoints are deleted, so that none can run again."""
    if run.stage == contract.PUBLISH_STAGE:
        publish.check_kept(run, published)
        run.workspace.clear()
        return published.report
    report = run.workspace.report(run.stage) or {"stage": run.stage}
    former = run.workspace.former(run.stage)
    if run.stage == contract.SOURCE_STAGE and former is not None and former.is_changed():
        return {
            **report,
            "note": f"spec.source has changed, and the artifact at {run.recipe.output.uri} was made of its former "
            f"content. Delete the artifact and {run.workspace.root} to build it again.",
        }
    return report


def _function(recipe: Recipe, name: str) -> Callable[[Run], Record]:
    """Return the function of a stage; UnsuitableError if the recipe has no such stage."""
    kinds = [one.kind for one in recipe.steps]
    names = contract.build_stages(kinds, evaluated=recipe.quality is not None)
    if name not in names:
        raise UnsuitableError(f'--stage: "{name}" is not a stage. Use one of {", ".join(names)}.')
    if name == contract.SOURCE_STAGE:
        return source.run
    if name == contract.PUBLISH_STAGE:
        return publish.run
    index = int(name.partition("-")[0])
    if name == contract.quality_stage(index):
        return lambda run: quality.run(run, index)
    return lambda run: step.run(run, index)


def _explain(error: BaseException, name: str, work: Path | None = None) -> tuple[str, int]:
    """Return the reason of a failure with its remedy, and the exit code: 2 if no retry helps."""
    known = isinstance(error, EngineError)
    if _is_full(error) or (not known and work is not None and free(work) < _LEFT):
        field = "spec.output" if name == contract.PUBLISH_STAGE else "spec.workspace.claim"
        remedy = f"Use a larger claim in {field}, or free some space; the build resumes"
        return f"{name}: {_FULL}. {remedy}.", 1
    if isinstance(error, EngineError):
        return wording.of_build(_of_spec(error.reason)), error.exit_code
    if isinstance(error, MemoryError) or _NO_MEMORY.search(f"{type(error).__name__}: {error}"):
        remedy = "Use more in spec.resources, a larger accelerator, or a smaller batch or maxLength"
        return f"{name}: memory ran out. {remedy}.", 2
    return f"{name}: {errors.describe(error)}", 1


def _of_spec(reason: str) -> str:
    """Return a problem of the configuration as one of the spec, without the place of the file."""
    _, found, problem = reason.partition(f"{contract.BUILD_FILE}: ")
    return f"spec.{problem.replace('Value error, ', '')}" if found else reason


def _is_full(error: BaseException) -> bool:
    return network.is_disk(error) or network.cause(error) in (_FULL, _QUOTA)
