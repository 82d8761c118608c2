"""Facts about checkpoints from their sizes, their config.json and the headers of their weights."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from slipstream_runtime.build import workspace
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
    """Return the files of a checkpoint that an engine reads, with those of its tokenizer."""
    return sources.wanted(folder, workspace.names(folder))


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
