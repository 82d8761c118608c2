"""First stage: check everything that can be checked before the work, then fetch the source and hash its files."""

import re
from pathlib import Path
from typing import Any, Final

from slipstream_runtime import logs
from slipstream_runtime.build import facts, inputs, manifest, workspace
from slipstream_runtime.build import plan as plans
from slipstream_runtime.build.publishing import place, places
from slipstream_runtime.build.recipe import Recipe
from slipstream_runtime.build.stages.run import Run
from slipstream_runtime.build.steps import registry
from slipstream_runtime.build.steps.step import Checkpoint
from slipstream_runtime.build.workspace import Record
from slipstream_runtime.errors import EngineError, UnsuitableError
from slipstream_runtime.model_files import records, sources

_COMMIT: Final = re.compile("[0-9a-f]{40}")
_DIGEST: Final = re.compile("@(sha256:[0-9a-f]{64})$")


def plan(run: Run) -> plans.Plan:
    """Return the plan of the whole build, from the source's sizes and config.json alone."""
    recipe = run.recipe
    places.of(recipe, layer=run.workspace.layer)
    source = _parse(recipe)
    if source.remote:
        download = sources.downloader(source, cache=recipe.cache, token=sources.token())
        found, total = _remote(recipe, download)
    else:
        folder = sources.resolve(source, cache=recipe.cache, token=None)
        facts.check_links(source, folder, facts.files(folder))
        found, total = facts.stored(recipe.source, folder), 0
    run.progress.size(found.bytes)
    return plans.plan(recipe, found, machine=run.machine(), module=registry.module, download=total)


def _remote(recipe: Recipe, download: Any) -> tuple[Checkpoint, int]:
    """Return the facts about a checkpoint of the hub or a bucket, and the bytes that are still to be downloaded."""
    try:
        sizes, config = download.inspect()
    except UnsuitableError:
        raise
    except EngineError:
        # NB: a complete copy is used while the hub does not answer, as engines do.
        kept = records.find(recipe.cache, recipe.source)
        if kept is None:
            raise
        return facts.stored(recipe.source, kept), 0
    # NB: a download that was killed goes on, so its bytes are not needed a second time.
    left = sum(sizes.values()) - workspace.disk_usage(download.held)
    return facts.listed(recipe.source, sizes, config), max(0, left)


def run(run: Run) -> Record:
    """Fetch the source."""
    recipe = run.recipe
    made = plan(run)
    logs.event("planned", **made.estimate())
    checked = inputs.check(recipe)
    for note in checked.notes:
        logs.event("warning", note=note)
    place.check(
        places.of(recipe, layer=run.workspace.layer),
        name=recipe.name,
        source=recipe.source,
        recipe=manifest.recipe(recipe),
    )
    source = _parse(recipe)
    folder = sources.resolve(
        source, cache=recipe.cache, token=sources.token(), progress=run.progress.download
    )
    names = facts.files(folder)
    facts.check_links(source, folder, names)
    files = workspace.entries(folder, names)
    # NB: it refuses files that are no safetensors before a step reads them.
    found = facts.stored(recipe.source, folder)
    revision, sha256 = _revision(source, folder), workspace.listing(files)
    report: dict[str, Any] = {
        "revision": revision,
        "sha256": sha256,
        "estimate": made.estimate(),
        **({"note": " ".join(checked.notes)} if checked.notes else {}),
    }
    return Record(
        stage=run.stage,
        folder=folder,
        files=files,
        facts={
            "revision": revision,
            "sha256": sha256,
            "parameters": found.parameters,
            "weights": found.bytes,
            "datasets": checked.hashes,
        },
        report=report,
    )


def unchanged(run: Run, found: Record) -> Record | None:
    """Return the record of a finished stage; None if a dataset has changed since."""
    try:
        datasets = inputs.check(run.recipe).hashes
    except UnsuitableError:
        raise
    except EngineError as error:
        # NB: a dataset that can't be read now is only read again by a step that needs it.
        logs.event("datasets not read again", reason=error.reason)
        return found
    return found if datasets == found.facts["datasets"] else None


def identity(record: Record) -> tuple[str, dict[str, str]]:
    """Return the hash of the source, and those of the datasets."""
    return record.facts["sha256"], record.facts["datasets"]


def _parse(recipe: Recipe) -> sources.Source:
    try:
        return sources.parse(recipe.source)
    except UnsuitableError as error:
        raise UnsuitableError(str(error).replace("spec.model.uri", "spec.source")) from error


def _revision(source: sources.Source, folder: Path) -> str | None:
    """Return the commit of the hub, the version of a bucket's objects, or the digest of an image."""
    if source.kind == "hf" and _COMMIT.fullmatch(folder.name):
        return folder.name
    if source.kind in ("s3", "gs"):
        return folder.name
    found = _DIGEST.search(source.uri)
    return found[1] if found else None
