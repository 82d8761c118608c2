"""Last stage: write the manifest and publish the last step's checkpoint."""

from typing import Any

from slipstream_runtime import contract
from slipstream_runtime.build import manifest, versions
from slipstream_runtime.build.manifest import Lineage, Manifest
from slipstream_runtime.build.publishing import place, places
from slipstream_runtime.build.stages.run import Run
from slipstream_runtime.build.steps.step import Tick
from slipstream_runtime.build.workspace import Record
from slipstream_runtime.errors import UnsuitableError


def run(run: Run) -> Record:
    """Publish the artifact, and free the working folder."""
    recipe, made = run.recipe, artifact(run)
    checkpoint = run.before(len(recipe.steps))
    assert checkpoint.folder is not None
    for stage in contract.build_stages(
        [step.kind for step in recipe.steps], evaluated=recipe.quality is not None
    )[:-1]:
        run.needed(stage)
    total = sum(entry.bytes for entry in made.files.values())
    run.progress.size(total)
    written = 0

    def count(number: int) -> None:
        nonlocal written
        written += number
        run.progress.count(Tick(written, total), unit="bytes")

    target = places.of(recipe, layer=run.workspace.layer)
    published = place.publish(target, checkpoint.folder, made, count)
    report: dict[str, Any] = {
        "uri": published.uri,
        "digest": published.digest,
        "sha256": manifest.digest(made),
        "files": {name: entry.sha256 for name, entry in sorted(made.files.items())},
        "omitted": 0,
        "versions": made.lineage.versions,
        "datasets": made.lineage.datasets,
    }
    return Record(stage=run.stage, facts={"bytes": total}, report=report)


def artifact(run: Run) -> Manifest:
    """Return the manifest of the build."""
    recipe, source = run.recipe, run.source
    return Manifest(
        name=recipe.name,
        lineage=Lineage(
            uri=recipe.source,
            revision=source.facts["revision"],
            sha256=source.facts["sha256"],
            recipe=manifest.recipe(recipe),
            datasets=source.facts["datasets"],
            versions=versions.installed(),
        ),
        files=run.before(len(recipe.steps)).files,
    )


def check_kept(run: Run, record: Record) -> None:
    """Raise UnsuitableError if what a finished build published is gone or was replaced."""
    found = places.of(run.recipe, layer=run.workspace.layer).existing()
    if found is None or manifest.digest(found) != record.report["sha256"]:
        what = "is gone" if found is None else "was replaced"
        raise UnsuitableError(
            f"spec.output: the artifact of this build at {run.recipe.output.uri} {what}. Delete {run.workspace.root} "
            "and run the build again."
        )
