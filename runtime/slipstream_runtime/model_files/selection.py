"""Selection of a repository's files that an engine reads: one format of the weights, without other copies.

Pure: names and the content of an index are arguments.
"""

import fnmatch
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Final

from slipstream_runtime.errors import EngineError, UnsuitableError

CONFIG: Final = "config.json"
MISTRAL_CONFIG: Final = "params.json"
"""File that describes a model in Mistral's own format, whose weights are consolidated*.safetensors."""
ADAPTER_CONFIG: Final = "adapter_config.json"
INDEX: Final = "model.safetensors.index.json"
"""File that lists the shards of a model in safetensors format."""
_SINGLE: Final = "model.safetensors"
NOT_NEEDED: Final = (
    "original/*",
    "metal/*",
    "onnx/*",
    "coreml/*",
    "openvino/*",
    "openvino_*",
    "*.gguf",
    "*.onnx",
    "*.onnx_data",
    "*.h5",
    "*.msgpack",
    "*.ot",
    "*.pth",
    "*.tflite",
    "*.mlmodel",
    "*.mlpackage/*",
)
"""Patterns of copies of the weights in formats that vLLM does not read."""
_PICKLED: Final = ("*.bin", "*.pt")
_CONSOLIDATED: Final = "consolidated*.safetensors"
"""Pattern of weights in Mistral's own format; its repositories hold them in the usual format, too."""
_READ: Final = ("*.safetensors", *_PICKLED)
"""Patterns of weights that vLLM reads."""
_FOREIGN: Final = ("*.gguf", "*.h5", "*.msgpack", "*.ot", "*.pth", "*.onnx", "*.tflite")
"""Patterns of weights in formats of other programs."""


def choose(names: Collection[str], *, shards: Collection[str] | None = None) -> list[str]:
    """Return the names of the files to download.

    `shards` are the files that the safetensors index lists; None if the repository has no such index.
    """
    kept = {name for name in names if not _matches(name, NOT_NEEDED)}
    if shards is not None:
        return sorted((kept - _weights_at_root(kept) - _pickled(kept)) | set(shards))
    if _SINGLE in kept:
        return sorted((kept - _weights_at_root(kept) - _pickled(kept)) | {_SINGLE})
    if any(name.endswith(".safetensors") for name in kept):
        kept -= _pickled(kept)
    consolidated = {name for name in kept if _matches(name, (_CONSOLIDATED,))}
    if _weights_at_root(kept) - consolidated:
        kept -= consolidated
    return sorted(kept)


def check_name(name: str, *, uri: str) -> None:
    """Raise UnsuitableError if the name of a source's file points outside the model's folder."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or path.as_posix() != name or "\0" in name:
        raise UnsuitableError(f"{uri}: the file {name[:200]!r} is outside the model's folder.")


def check_form(names: Collection[str], *, uri: str) -> None:
    """Raise UnsuitableError if all weights are in formats that engines can't read; a model without weights passes."""
    foreign = sorted(name for name in names if _matches(name, _FOREIGN))
    if foreign and not has_weights(names):
        raise UnsuitableError(
            f"{uri}: its weights are only in a format that vLLM can't read here ({foreign[0][:200]}). "
            "Use a repository with safetensors."
        )


def has_weights(names: Iterable[str]) -> bool:
    """Whether any name is that of weights that vLLM reads."""
    return any(_matches(name, _READ) for name in names)


def check_not_empty(sizes: Mapping[str, int], *, uri: str) -> None:
    """Raise EngineError if a file of weights is empty, such as after an aborted upload."""
    for name, size in sizes.items():
        if not size and _matches(name, _READ):
            raise EngineError(f"{uri}: {name} is empty. Upload it again.")


def matching(names: Collection[str], patterns: Iterable[str]) -> list[str]:
    """Return the names that at least one of the patterns matches."""
    wanted = tuple(patterns)
    return sorted(name for name in names if _matches(name, wanted))


def shards(text: bytes, *, uri: str) -> list[str]:
    """Return the files that an index lists; UnsuitableError if the index is not valid."""
    try:
        found = sorted({str(name) for name in json.loads(text)["weight_map"].values()})
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise UnsuitableError(f"{uri}: {INDEX} is not a valid index of weights.") from error
    for name in found:
        check_name(name, uri=uri)
    return found


def check_whole(wanted: Sequence[str], *, is_there: Callable[[str], bool], uri: str) -> None:
    """Raise EngineError if a file that the index lists is missing."""
    absent = [name for name in wanted if not is_there(name)]
    if absent:
        raise EngineError(
            f"{uri}: {INDEX} lists {absent[0]}, which is missing ({len(absent)} of {len(wanted)} files are missing)."
        )


def _weights_at_root(names: Iterable[str]) -> set[str]:
    """Return the safetensors files at the root, except adapters; a subfolder has weights of its own."""
    adapters = ("adapter_model.safetensors",)
    return {
        name
        for name in names
        if name.endswith(".safetensors") and "/" not in name and name not in adapters
    }


def _pickled(names: Iterable[str]) -> set[str]:
    return {name for name in names if _matches(name, _PICKLED)}


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
