"""The files of a model repository that an engine reads: one form of the weights, and no other copies of them.

Pure: names and the content of an index come in as values.
"""

import fnmatch
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Final

from slipstream_runtime.errors import EngineError, UnsuitableError

INDEX: Final = "model.safetensors.index.json"
"""Name of the file that lists the shards of a model in safetensors form."""
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
"""Patterns of other copies of the same weights, which vLLM does not read."""
_PICKLED: Final = ("*.bin", "*.pt")
_CONSOLIDATED: Final = "consolidated*.safetensors"
"""Mistral's own form of weights that such repositories hold in the usual form, too."""
_READ: Final = ("*.safetensors", *_PICKLED)
"""Patterns of weights that vLLM reads."""
_FOREIGN: Final = ("*.gguf", "*.h5", "*.msgpack", "*.ot", "*.pth", "*.onnx", "*.tflite")
"""Patterns of weights for other programs."""


def choose(names: Collection[str], *, shards: Collection[str] | None = None) -> list[str]:
    """Return the names of the files to download.

    `shards` are the files that the index of the safetensors form names; None if the repository has no such index.
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
    """Raise UnsuitableError if a file's name, as a source gives it, doesn't lie inside the model's folder."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or path.as_posix() != name or "\0" in name:
        raise UnsuitableError(f"{uri}: the file {name[:200]!r} does not lie in the model's folder")


def check_form(names: Collection[str], *, uri: str) -> None:
    """Raise UnsuitableError if all weights are in forms that engines don't read; a model without any is not judged."""
    foreign = sorted(name for name in names if _matches(name, _FOREIGN))
    if foreign and not has_weights(names):
        raise UnsuitableError(
            f"{uri}: its weights are only in a form that vLLM does not read here ({foreign[0][:200]}). "
            "Use a repository with safetensors."
        )


def has_weights(names: Iterable[str]) -> bool:
    """Whether a file of weights that vLLM reads is among the names."""
    return any(_matches(name, _READ) for name in names)


def check_not_empty(sizes: Mapping[str, int], *, uri: str) -> None:
    """Raise EngineError if a file of weights has no bytes: an upload that broke off leaves such."""
    for name, size in sizes.items():
        if not size and _matches(name, _READ):
            raise EngineError(f"{uri}: {name} is empty. Upload it again")


def matching(names: Collection[str], patterns: Iterable[str]) -> list[str]:
    """Return the names that at least one of the patterns matches."""
    wanted = tuple(patterns)
    return sorted(name for name in names if _matches(name, wanted))


def shards(text: bytes, *, uri: str) -> list[str]:
    """Return the files that an index names; UnsuitableError if it can't be read."""
    try:
        found = sorted({str(name) for name in json.loads(text)["weight_map"].values()})
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise UnsuitableError(f"{uri}: {INDEX} is not a valid index of weights") from error
    for name in found:
        check_name(name, uri=uri)
    return found


def check_whole(wanted: Sequence[str], *, is_there: Callable[[str], bool], uri: str) -> None:
    """Raise EngineError if a file that the index names is missing."""
    absent = [name for name in wanted if not is_there(name)]
    if absent:
        raise EngineError(
            f"{uri}: {INDEX} names {absent[0]}, which is missing ({len(absent)} of {len(wanted)} files are)"
        )


def _weights_at_root(names: Iterable[str]) -> set[str]:
    """Return other forms of the weights beside those that the index names; a subfolder holds parts of its own."""
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
