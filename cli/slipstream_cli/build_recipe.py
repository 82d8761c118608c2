"""Recipe of a ModelBuild for this machine: its datasets, claims and images are files here."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from slipstream_cli.checkpoints import UnreadableError
from slipstream_cli.documents import Document
from slipstream_operator import names
from slipstream_operator.api.modelbuild import ModelBuildSpec
from slipstream_operator.core import parsing
from slipstream_operator.core.builds import recipe as recipes
from slipstream_operator.errors import PermanentError
from slipstream_operator.names import Reason
from slipstream_runtime import build_support, contract

_CONFIG_MAP: Final = "ConfigMap"
_WRITTEN: Final = (
    "file:///folder, s3://bucket/prefix, gs://bucket/prefix or oci://registry/image:tag"
)


@dataclass(frozen=True)
class Places:
    """Replacements for what only a cluster has."""

    source: str | None
    output: str | None
    datasets: Mapping[str, Path]
    """Name of a ConfigMap or claim -> file, or folder with the file."""
    work: Path | None
    cache: Path
    """Folder of downloads and of working folders."""
    dry: bool = False
    """Whether the build is only planned, so that neither its output nor the files of a cluster are needed."""


def parse(build: Document) -> ModelBuildSpec:
    """Return the spec. PermanentError names wrong and unknown fields."""
    if not re.fullmatch(names.NAME_PATTERN, build.name):
        raise PermanentError(
            Reason.INVALID_SPEC,
            f'metadata.name: "{build.name[:80]}" must be at most 40 characters (a-z, 0-9, -) and start with a letter.',
        )
    spec = build.body["spec"]
    found = parsing.parse(ModelBuildSpec, spec, what="spec")
    if problems := list(parsing.unknown(found, spec, what="spec")):
        raise PermanentError(Reason.INVALID_SPEC, "; ".join(problems))
    for index, step in enumerate(found.steps):
        if len(step.model_fields_set) != 1:
            kinds = ", ".join(type(step).model_fields)
            raise PermanentError(
                Reason.INVALID_SPEC, f"spec.steps[{index}]: needs exactly one of {kinds}."
            )
        student = step.distill.student if step.distill is not None else None
        if student is not None and (student.uri is None) == (student.layers is None):
            raise PermanentError(
                Reason.INVALID_SPEC,
                f"spec.steps[{index}].distill.student: needs either uri, or layers and optionally hidden.",
            )
    if reason := build_support.order_refusal([step.kind for step in found.steps]):
        raise PermanentError(Reason.UNSUPPORTED, f"spec.steps: {reason}.")
    return found


def make(
    build: Document,
    documents: Sequence[Document],
    places: Places,
    *,
    device: build_support.Device,
    memory: int | None,
) -> dict[str, Any]:
    """Return the recipe, with the files of ConfigMaps written into the working folder."""
    spec = parse(build)
    found = recipes.build(
        spec, name=build.name, uid="", device=device, memory=memory, work=contract.BUILD_DIRECTORY
    )
    found["source"] = places.source or spec.source
    found["output"]["uri"] = places.output or spec.output.uri
    _check_place("spec.source", found["source"], ("pvc", "oci"), "--source")
    if found["output"]["uri"].startswith("hf://"):
        raise UnreadableError(
            f'spec.output.uri: "{found["output"]["uri"]}" can\'t be written. Use {_WRITTEN}'
        )
    if not places.dry:
        _check_place("spec.output.uri", found["output"]["uri"], ("pvc",), "--output-uri")
    given = sorted(f"{name}={path.resolve()}" for name, path in places.datasets.items())
    identity = json.dumps([recipes.digest(found), found["output"], given], sort_keys=True)
    digest = hashlib.sha256(identity.encode()).hexdigest()[:12]
    work = places.work or places.cache / "builds" / f"{build.name}-{digest}"
    files = [
        _file(mounted, documents, places, work / "datasets" / str(number))
        for number, mounted in enumerate(recipes.mounts(spec))
    ]
    return cast(
        dict[str, Any],
        _with_files(found, files)
        | {"uid": f"local-{digest}", "work": str(work), "cache": str(places.cache / "models")},
    )


def _check_place(field: str, uri: str, schemes: Sequence[str], option: str) -> None:
    scheme = uri.partition("://")[0]
    if scheme in schemes:
        raise UnreadableError(
            f'{field}: "{uri}" can\'t work because this machine does not mount {scheme}://. Use {option} file:///folder'
        )


def _file(
    mounted: recipes.Mounted,
    documents: Sequence[Document],
    places: Places,
    folder: Path,
) -> Path | None:
    """Return the file on this machine that a dataset of a ConfigMap or claim stands for; None if a plan lacks it."""
    given = places.datasets
    name = mounted.config_map or mounted.claim or ""
    if name in given:
        path = given[name] / mounted.file if given[name].is_dir() else given[name]
        if not path.is_file():
            raise UnreadableError(f"--dataset {name}: there is no file {path}")
        return path.resolve()
    for document in documents:
        if (document.kind, document.name) == (_CONFIG_MAP, mounted.config_map):
            content = (document.body.get("data") or {}).get(mounted.file)
            if not isinstance(content, str):
                raise UnreadableError(f"ConfigMap {name}: has no entry {mounted.file}")
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / Path(mounted.file).name
            path.write_text(content)
            return path.resolve()
    if places.dry:
        return None
    kind = "ConfigMap" if mounted.config_map else "claim"
    raise UnreadableError(
        f"{kind} {name}: its file {mounted.file} is not on this machine. Name a file with --dataset {name}=FILE"
    )


def _with_files(value: Any, files: Sequence[Path | None]) -> Any:
    """Return the recipe with the files of this machine in place of mounted ones."""
    if isinstance(value, dict):
        return {key: _with_files(part, files) for key, part in value.items()}
    if isinstance(value, list):
        return [_with_files(part, files) for part in value]
    prefix = f"{contract.DATASETS_DIRECTORY}/"
    if isinstance(value, str) and value.startswith(prefix):
        return str(files[int(value.removeprefix(prefix).partition("/")[0])] or value)
    return value
