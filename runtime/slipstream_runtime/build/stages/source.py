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
from slipstream_runtime.build.workspace import Record
from slipstream_runtime.errors import UnsuitableError
from slipstream_runtime.model_files import sources

_COMMIT: Final = re.compile("[0-9a-f]{40}")
_DIGEST: Final = re.compile("@(sha256:[0-9a-f]{64})$")


def plan(run: Run) -> plans.Plan:
    """Return the plan of the whole build, from the source's sizes and config.json alone."""
    recipe = run.recipe
    source = _parse(recipe)
    if source.remote:
        download = sources.downloader(source, cache=recipe.cache, token=sources.token())
        sizes, config = download.inspect()
        found = facts.listed(recipe.source, sizes, config)
        # NB: a download that was killed goes on, so its bytes are not needed a second time.
        total = max(0, sum(sizes.values()) - workspace.disk_usage(recipe.cache))
    else:
        folder = sources.resolve(source, cache=recipe.cache, token=None)
        found, total = facts.stored(recipe.source, folder), 0
    run.progress.size(found.bytes)
    return plans.plan(recipe, found, machine=run.machine(), module=registry.module, download=total)


def run(run: Run) -> Record:
    """Fetch the source."""
    recipe = run.recipe
    made = plan(run)
    logs.event("planned", **made.estimate())
    datasets = inputs.check(recipe)
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
    files = workspace.entries(folder, facts.files(folder))
    # NB: it refuses files that are no safetensors before a step reads them.
    found = facts.stored(recipe.source, folder)
    revision, sha256 = _revision(source, folder), workspace.listing(files)
    report: dict[str, Any] = {
        "revision": revision,
        "sha256": sha256,
        "estimate": made.estimate(),
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
            "datasets": datasets,
        },
        report=report,
    )


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
