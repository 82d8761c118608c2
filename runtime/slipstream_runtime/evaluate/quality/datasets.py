"""File of a dataset: a local path, or one that is downloaded from the hub or a bucket."""

import hashlib
import random
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from slipstream_runtime.errors import EngineError, UnsuitableError
from slipstream_runtime.evaluate.quality import items
from slipstream_runtime.evaluate.quality.config import Dataset
from slipstream_runtime.model_files import network, sources

_HUB: Final = re.compile(
    r"hf://datasets/(?P<repository>[^/@]+/[^/@]+)(?:@(?P<revision>[^/]+))?/(?P<file>.+)"
)
_NOT_THERE: Final = (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)
LARGEST: Final = 256 * 1024 * 1024
"""Bytes of a dataset's file. Its items are held in memory."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """Items of a dataset and the hash of the file that they come from."""

    name: str
    sha256: str
    items: tuple[items.Item, ...]
    size: int
    """Items in the file, of which `items` may be a draw."""
    duplicates: int = 0
    """Items that were left out, because an earlier one has the same content."""


def load(
    dataset: Dataset, *, cache: Path, most: int | None, seed: int, distinct: bool = False
) -> Loaded:
    """Load the items, at most `most` of them, drawn by `seed` and in the order of the file.

    With `distinct`, of items with the same content only the first is used: the others say nothing new.
    """
    assert dataset.uri is not None
    path = _file(dataset.uri, cache=cache)
    try:
        if path.stat().st_size > LARGEST:
            raise UnsuitableError(
                f"dataset.uri: {dataset.uri} is larger than {LARGEST // 2**20} MiB. Use a part of it."
            )
        content = path.read_bytes()
        text = content.decode("utf-8-sig")
    except _NOT_THERE as error:
        raise UnsuitableError(f"dataset.uri: {error.strerror}: {path}") from error
    except OSError as error:
        raise EngineError(f"dataset.uri: {error.strerror}: {path}") from error
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UnsuitableError(
            f"dataset {dataset.uri}: line {line} is not UTF-8 text ({error.reason}). Convert the file."
        ) from error
    # NB: str.splitlines also splits at characters that JSON allows inside of a text, such as U+2028.
    found = items.parse(text.split("\n"), fields=dataset.fields, source=f"dataset {dataset.uri}")
    chosen = found
    if distinct:
        first = {item.content: item for item in reversed(found)}
        chosen = tuple(item for item in found if first[item.content] is item)
    duplicates = len(found) - len(chosen)
    if most is not None and most < len(chosen):
        picked = sorted(random.Random(seed).sample(range(len(chosen)), most))  # noqa: S311
        chosen = tuple(chosen[number] for number in picked)
    return Loaded(
        dataset.uri,
        hashlib.sha256(content).hexdigest(),
        chosen,
        size=len(found),
        duplicates=duplicates,
    )


def _file(uri: str, *, cache: Path) -> Path:
    if "://" not in uri:
        return Path(uri)
    if uri.startswith("hf://"):
        return _from_hub(uri, cache=cache)
    folder, _, name = uri.rpartition("/")
    try:
        source = sources.parse(folder)
    except UnsuitableError:
        raise UnsuitableError(
            f'dataset.uri: "{uri}" is no file of a known kind. Use a path, hf://datasets/org/name/file, '
            "s3://bucket/file or gs://bucket/file."
        ) from None
    if source.path is not None:
        return source.path / name
    try:
        return sources.resolve(source, cache=cache, token=None, holds=name, files=[name]) / name
    except EngineError as error:
        raise type(error)(f"dataset.uri: {error}") from error


def _from_hub(uri: str, *, cache: Path) -> Path:
    match = _HUB.fullmatch(uri)
    if match is None:
        raise UnsuitableError(
            f'dataset.uri: "{uri}" names no file. Use hf://datasets/org/name[@revision]/file.jsonl.'
        )
    import huggingface_hub  # noqa: PLC0415

    try:
        found = huggingface_hub.hf_hub_download(
            match["repository"],
            match["file"],
            repo_type="dataset",
            revision=match["revision"],
            cache_dir=cache / "datasets",
            token=sources.token() or False,
        )
    except Exception as error:
        # NB: the library's transport, and so its exceptions, change with its version.
        cause = network.cause(error) or network.local(error) or type(error).__name__
        raise EngineError(f"dataset.uri: {uri} can't be read: {cause}") from error
    return Path(found)
