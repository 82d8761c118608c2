"""Facts about checkpoints from their sizes, their config.json and the headers of their weights."""

import json
import math
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from slipstream_runtime import contract
from slipstream_runtime.build import shapes, workspace
from slipstream_runtime.build.steps.step import Checkpoint
from slipstream_runtime.errors import UnsuitableError
from slipstream_runtime.model_files import selection, sources

WEIGHTS: Final = (".safetensors", ".bin", ".pt")
_SAFETENSORS: Final = ".safetensors"
_LARGEST_HEADER: Final = 100_000_000
"""Bytes of a header at which the library safetensors refuses a file."""
_BYTES: Final = {"float32": 4, "float16": 2, "bfloat16": 2, "float8_e4m3fn": 1}


def listed(uri: str, sizes: Mapping[str, int], config: bytes | None) -> Checkpoint:
    """Return the facts about a checkpoint that is not downloaded yet. Its parameters are computed from its bytes."""
    found = _config(uri, config)
    total = sum(size for name, size in sizes.items() if name.endswith(WEIGHTS))
    if not total:
        raise UnsuitableError(f"source: {uri} has no weights. Use a checkpoint with safetensors.")
    kind = str(found.get("dtype") or found.get("torch_dtype") or "bfloat16")
    return Checkpoint(bytes=total, parameters=total // _BYTES.get(kind, 2), config=found)


def stored(uri: str, folder: Path) -> Checkpoint:
    """Return the facts about a checkpoint in a folder."""
    config = folder / selection.CONFIG
    content = config.read_bytes() if config.is_file() else None
    chosen = files(folder)
    sizes = {name: (folder / name).stat().st_size for name in chosen}
    found = listed(uri, sizes, content)
    parameters = [_parameters(folder / name) for name in chosen if name.endswith(_SAFETENSORS)]
    return Checkpoint(
        bytes=found.bytes, parameters=sum(parameters) or found.parameters, config=found.config
    )


def files(folder: Path) -> list[str]:
    """Return the files of a checkpoint that an engine reads, with those of its tokenizer.

    Hidden files and folders are left out, such as .git with its own copy of the weights.
    """
    return [
        name
        for name in sources.wanted(folder, workspace.names(folder))
        if not any(part.startswith(".") for part in name.split("/"))
    ]


def check_links(source: sources.Source, folder: Path, names: Collection[str]) -> None:
    """Raise UnsuitableError for a file that is no part of the source: what a link names would be published."""
    whole = [folder.resolve(), *_around(source, folder)]
    for name in names:
        path = folder / name
        target = path.resolve()
        if not target.exists():
            problem = f"is a link to {target}, which does not exist"
        elif not target.is_file():
            problem = "is neither a file nor a folder"
        elif not any(target.is_relative_to(one) for one in whole) and not (
            source.kind == "file" and name.endswith(WEIGHTS)
        ):
            problem = f"is a link to {target}, outside the source"
        else:
            continue
        raise UnsuitableError(
            f"{source.uri}: {name[:200]} {problem}. Put a copy of the file into the folder, or delete it."
        )


def _around(source: sources.Source, folder: Path) -> Iterator[Path]:
    """Yield the folders that links of a checkpoint may name: its claim, its image, or its place in a hub's cache."""
    if source.kind == "pvc":
        yield (Path(contract.CLAIMS_DIRECTORY) / source.uri.split("/")[2]).resolve()
    if source.kind == "oci" and source.path is not None:
        yield source.path.resolve()
    if folder.parent.name == "snapshots":
        yield folder.resolve().parents[1]


def _config(uri: str, content: bytes | None) -> dict[str, Any]:
    if content is None:
        raise UnsuitableError(
            f"source: {uri} has no {selection.CONFIG}. Use a checkpoint in the form of transformers."
        )
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UnsuitableError(
            f"source: {selection.CONFIG} of {uri} is not JSON: {error}"
        ) from error
    if not isinstance(found, dict):
        raise UnsuitableError(f"source: {selection.CONFIG} of {uri} is not a JSON object.")
    try:
        shapes.shape(found)
    except (ValueError, TypeError, ArithmeticError) as error:
        raise UnsuitableError(
            f"source: {selection.CONFIG} of {uri} has a size that is no number: {error}"
        ) from error
    return found


def _parameters(path: Path) -> int:
    """Return the number of elements of a file's tensors."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 0 < length <= _LARGEST_HEADER:
                raise ValueError("its header is too long")
            header = json.loads(file.read(length))
        return sum(
            math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__"
        )
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise UnsuitableError(f"{path.name} is not a file of safetensors: {error}") from error
