"""Datasets of a recipe: checked before the work starts, and loaded the same way by every stage."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from slipstream_runtime import contract
from slipstream_runtime.build import manifest
from slipstream_runtime.build.recipe import Recipe, Samples
from slipstream_runtime.errors import EngineError, UnsuitableError
from slipstream_runtime.evaluate.quality import datasets
from slipstream_runtime.evaluate.quality import run as evaluation
from slipstream_runtime.evaluate.quality.config import Dataset
from slipstream_runtime.evaluate.quality.items import Item


def samples(recipe: Recipe) -> Iterator[tuple[str, Samples]]:
    """Yield the field and the samples of each calibration and training."""
    for index, step in enumerate(recipe.steps):
        body = getattr(step, step.kind)
        for name in ("calibration", "training", "heal"):
            found = getattr(body, name, None)
            if isinstance(found, Samples):
                yield f"spec.steps[{index}].{step.kind}.{name}", found


@dataclass(frozen=True, slots=True)
class Checked:
    """Datasets of a recipe that have been read."""

    hashes: dict[str, str]
    """Name of a dataset -> SHA-256 of its file."""
    notes: tuple[str, ...]
    """Sentences on what the evaluation will not be able to tell."""


def check(recipe: Recipe, *, skip_missing: bool = False) -> Checked:
    """Read every dataset.

    UnsuitableError names a bad line by number, and a metric that applies to no item. `skip_missing` passes over files
    that only pods of a cluster mount.
    """
    hashes: dict[str, str] = {}
    notes: list[str] = []
    for field, dataset in _fields(recipe):
        if dataset.uri is None:
            _check_task(field, dataset)
            continue
        if skip_missing and _is_mounted(dataset.uri) and not Path(dataset.uri).exists():
            notes.append(f"{field}.dataset: was not read, because only a cluster has it.")
            continue
        quality = recipe.quality
        most = quality.max_items if quality and dataset is quality.dataset else None
        try:
            judges = quality is not None and dataset is quality.dataset
            loaded = datasets.load(
                dataset, cache=recipe.cache, most=most, seed=recipe.seed, distinct=judges
            )
            if quality and judges:
                evaluation.check_wording(loaded, chat=quality.chat)
                chosen = evaluation.choose([metric.name for metric in quality.metrics], loaded)
                notes += (f"{field}: {one}" for one in evaluation.too_few(quality.metrics, chosen))
        except EngineError as error:
            raise type(error)(f"{field}.{error}") from error
        name = manifest.dataset_name(dataset.uri)
        if hashes.setdefault(name, loaded.sha256) != loaded.sha256:
            hashes[f"{name} ({field})"] = loaded.sha256
    return Checked(hashes, tuple(notes))


def _check_task(field: str, dataset: Dataset) -> None:
    """Raise UnsuitableError if lm-evaluation-harness has no such task."""
    # NB: importing the library takes many seconds.
    from slipstream_runtime.evaluate.quality import harness  # noqa: PLC0415

    assert dataset.task is not None
    try:
        harness.manager(dataset.task, folder=dataset.tasks_folder)
    except UnsuitableError as error:
        raise UnsuitableError(f"{field}.{error}") from error


def _is_mounted(uri: str) -> bool:
    return uri.startswith(f"{contract.DATASETS_DIRECTORY}/")


def _fields(recipe: Recipe) -> Iterator[tuple[str, Dataset]]:
    """Yield the field and the value of each dataset."""
    for field, one in samples(recipe):
        yield field, one.dataset
    if recipe.quality is not None:
        yield "spec.quality", recipe.quality.dataset


def check_hash(recipe: Recipe, dataset: Dataset, sha256: str, known: Mapping[str, str]) -> None:
    """Raise EngineError if a dataset has changed since the source stage: `known` are the hashes of its record."""
    if dataset.uri is None or sha256 in known.values():
        return
    field = next((field for field, one in _fields(recipe) if one == dataset), "spec")
    raise EngineError(
        f"{field}.dataset: {manifest.dataset_name(dataset.uri)} has changed since the build started. The next run "
        "starts again with its present content."
    )


def load(recipe: Recipe, wanted: Samples, *, known: Mapping[str, str]) -> tuple[Item, ...]:
    """Return the drawn items of a calibration or training; `known` are the hashes of datasets as the build started."""
    if wanted.dataset.task is not None:
        raise UnsuitableError(
            f'dataset.task: "{wanted.dataset.task}" can\'t work because a step reads JSON lines. Use dataset.uri.'
        )
    loaded = datasets.load(
        wanted.dataset, cache=recipe.cache, most=wanted.samples, seed=recipe.seed
    )
    check_hash(recipe, wanted.dataset, loaded.sha256, known)
    return loaded.items
