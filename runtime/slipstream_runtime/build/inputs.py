"""Datasets of a recipe: checked before the work starts, and loaded the same way by every stage."""

from collections.abc import Iterator

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


def check(recipe: Recipe) -> dict[str, str]:
    """Read every dataset, and return its hash by name.

    UnsuitableError names a bad line by number, and a metric that applies to no item.
    """
    given: list[tuple[str, Dataset]] = [(field, one.dataset) for field, one in samples(recipe)]
    if recipe.quality is not None:
        given.append(("spec.quality", recipe.quality.dataset))
    hashes: dict[str, str] = {}
    for field, dataset in given:
        if dataset.uri is None:
            continue
        try:
            loaded = datasets.load(dataset, cache=recipe.cache, most=None, seed=recipe.seed)
            if recipe.quality is not None and dataset is recipe.quality.dataset:
                evaluation.choose([metric.name for metric in recipe.quality.metrics], loaded)
        except EngineError as error:
            raise type(error)(f"{field}.{error}") from error
        name = manifest.dataset_name(dataset.uri)
        if hashes.setdefault(name, loaded.sha256) != loaded.sha256:
            hashes[f"{name} ({field})"] = loaded.sha256
    return hashes


def load(recipe: Recipe, wanted: Samples) -> tuple[Item, ...]:
    """Return the drawn items of a calibration or training."""
    if wanted.dataset.task is not None:
        raise UnsuitableError(
            f'dataset.task: "{wanted.dataset.task}" can\'t work because a step reads JSON lines. Use dataset.uri.'
        )
    return datasets.load(
        wanted.dataset, cache=recipe.cache, most=wanted.samples, seed=recipe.seed
    ).items
