"""Recipe of a build: the JSON that the builder reads, and the datasets that its pods mount."""

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from slipstream_operator.api import units
from slipstream_operator.api.buildsteps import Distill, Samples, Student
from slipstream_operator.api.datasets import DatasetSpec
from slipstream_operator.api.modelbuild import ModelBuildSpec
from slipstream_runtime import build_support, contract

_SHARES: Final = frozenset(
    {"sparsity", "layers", "heads", "channels", "maxRegression", "minAcceptance"}
)
"""Fields with percentages, which are numbers in the recipe."""
_PLACES: Final = ("name", "uid", "output", "memory", "work", "cache")
"""Parts of the recipe that do not decide the content of the artifact."""


@dataclasses.dataclass(frozen=True)
class Mounted:
    """File of a ConfigMap or claim that a recipe reads."""

    config_map: str | None
    claim: str | None
    file: str
    """Key of the ConfigMap, or path in the claim."""


def build(
    spec: ModelBuildSpec,
    *,
    name: str,
    uid: str,
    device: build_support.Device,
    memory: int | None,
    work: str,
) -> dict[str, Any]:
    """Return the recipe. `memory` are the bytes that a step may use; None is unknown."""
    files = mounts(spec)
    found: dict[str, Any] = {
        "name": name,
        "uid": uid,
        "source": spec.source,
        "steps": [_plain(step, files) for step in spec.steps],
        "output": {
            key: value
            for key, value in _plain(spec.output, files).items()
            if key in ("uri", "plainHttp")
        },
        "device": device,
        "seed": spec.seed or 0,
        "work": work,
        "cache": f"{work}/cache",
    }
    if memory is not None:
        found["memory"] = memory
    if spec.quality is not None:
        found["quality"] = _plain(spec.quality, files)
    return found


def digest(recipe: Mapping[str, Any]) -> str:
    """Return the SHA-256 of everything in the recipe that decides the content of the artifact."""
    content = {key: value for key, value in recipe.items() if key not in _PLACES}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def stages(spec: ModelBuildSpec) -> tuple[str, ...]:
    """Return the names of the stages in order."""
    kinds = [step.kind for step in spec.steps]
    return contract.build_stages(kinds, evaluated=spec.quality is not None)


def drafts(spec: ModelBuildSpec) -> tuple[str, ...]:
    """Return the stages that measure a draft in the engine."""
    first = first_draft(spec)
    if spec.quality is None or first is None:
        return ()
    return tuple(
        contract.quality_stage(index)
        for index in range(first, len(spec.steps))
        if spec.steps[index].export is None
    )


def first_draft(spec: ModelBuildSpec) -> int | None:
    """Return the number of the first step that makes a draft; None if none does."""
    return next(
        (
            index
            for index, step in enumerate(spec.steps)
            if step.distill is not None and step.distill.purpose == "Draft"
        ),
        None,
    )


def datasets(spec: ModelBuildSpec) -> Iterator[tuple[str, DatasetSpec]]:
    """Yield the field and the value of each dataset, in order."""
    for index, step in enumerate(spec.steps):
        body = getattr(step, step.kind)
        for name in ("calibration", "training", "heal"):
            samples = getattr(body, name, None)
            if isinstance(samples, Samples):
                yield f"spec.steps[{index}].{step.kind}.{name}.dataset", samples.dataset
    if spec.quality is not None:
        yield "spec.quality.dataset", spec.quality.dataset


def students(spec: ModelBuildSpec) -> Iterator[tuple[str, str]]:
    """Yield the field and the URI of each student that is a checkpoint."""
    for index, step in enumerate(spec.steps):
        if isinstance(step.distill, Distill) and step.distill.student.uri is not None:
            yield f"spec.steps[{index}].distill.student.uri", step.distill.student.uri


def mounts(spec: ModelBuildSpec) -> tuple[Mounted, ...]:
    """Return the files that pods mount. The position of each is the name of its folder."""
    found: dict[Mounted, None] = {}
    for _, dataset in datasets(spec):
        if (mounted := _mounted(dataset)) is not None:
            found[mounted] = None
    return tuple(found)


def _mounted(dataset: DatasetSpec) -> Mounted | None:
    if dataset.config_map is not None:
        return Mounted(dataset.config_map.name, None, dataset.config_map.key)
    if dataset.claim is not None:
        return Mounted(None, dataset.claim.name, dataset.claim.path)
    return None


def _plain(value: object, files: tuple[Mounted, ...]) -> Any:
    """Return the value as the recipe writes it."""
    if isinstance(value, DatasetSpec):
        return _dataset(value, files)
    if isinstance(value, Student):
        return value.uri or value.model_dump(by_alias=True, exclude_none=True)
    if isinstance(value, list):
        return [_plain(entry, files) for entry in value]
    fields = getattr(type(value), "model_fields", None)
    if fields is None:
        return value
    found = {}
    for name, field in fields.items():
        given, alias = getattr(value, name), field.alias or name
        if given is None:
            continue
        share = alias in _SHARES and isinstance(given, str)
        found[alias] = units.share(given) if share else _plain(given, files)
    return found


def _dataset(dataset: DatasetSpec, files: tuple[Mounted, ...]) -> dict[str, Any]:
    mounted = _mounted(dataset)
    found: dict[str, Any] = {}
    if mounted is not None:
        found["uri"] = f"{contract.DATASETS_DIRECTORY}/{files.index(mounted)}/{mounted.file}"
    elif dataset.uri is not None:
        found["uri"] = dataset.uri
    else:
        found["task"] = dataset.task
    if dataset.fields:
        found["fields"] = dict(dataset.fields)
    return found
