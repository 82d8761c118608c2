"""Resolution of a model's URI into a folder with its files.

The hub's token and the credentials of stores must not appear in a log or a message.
"""

import dataclasses
import os
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Final, Literal

from slipstream_runtime import contract
from slipstream_runtime.errors import EngineError, UnsuitableError
from slipstream_runtime.model_files import locks, records, selection
from slipstream_runtime.model_files.progress import Progress

_HUB: Final = re.compile(r"(?P<repository>[^/@]+(?:/[^/@]+)?)(?:@(?P<revision>.+))?")
_BUCKET: Final = re.compile(r"(?P<bucket>[^/]+)(?:/(?P<prefix>.*))?")
_IMAGE_FOLDERS: Final = ("", "models")
"""Folders of an image that may hold the model; KServe's model images use the second."""
_POINTER: Final = b"version https://git-lfs"
_POINTER_BYTES: Final = 1024
"""Bytes; by Git LFS's specification, a pointer file is smaller."""


@dataclasses.dataclass(frozen=True)
class Source:
    """Parsed URI of a model: a local folder, a repository of the hub, or a prefix of a bucket."""

    kind: Literal["file", "pvc", "oci", "hf", "s3", "gs"]
    uri: str
    path: Path | None = None
    repository: str | None = None
    revision: str | None = None
    bucket: str | None = None
    prefix: str = ""

    @property
    def local(self) -> bool:
        """Whether the source needs no access to the hub."""
        return self.kind != "hf"

    @property
    def remote(self) -> bool:
        """Whether the files are downloaded into the cache."""
        return self.path is None


def cache_folder(folder: Path = Path(contract.CACHE_DIRECTORY)) -> Path:
    """Return the folder for downloads, which every pod has; UnsuitableError if it can't be written."""
    if folder.is_dir() and not os.access(folder, os.W_OK | os.X_OK):
        raise UnsuitableError(
            f"spec.cache.model: user {os.getuid()} can't write to the folder. Make that user its owner, or give group "
            f"{os.getgid()} write permission."
        )
    return folder


def token() -> str | None:
    """Return the token for gated repositories of the hub; None without one."""
    return os.environ.get(contract.MODEL_TOKEN_ENV) or None


def parse(
    uri: str,
    *,
    claims: Path = Path(contract.CLAIMS_DIRECTORY),
    images: Path = Path(contract.IMAGES_DIRECTORY),
) -> Source:
    """Parse a URI of one of the schemes file, pvc, oci, hf, s3 and gs."""
    scheme, separator, rest = uri.partition("://")
    if separator and scheme == "file" and rest.startswith("/"):
        return Source("file", uri, path=Path(rest))
    if separator and scheme == "pvc" and rest.strip("/"):
        if ".." in Path(rest).parts:
            raise UnsuitableError(
                f'spec.model.uri: "{uri}" points outside its claim. Leave out "..".'
            )
        return Source("pvc", uri, path=claims / rest.lstrip("/"))
    if separator and scheme == "oci" and rest.strip("/"):
        return Source("oci", uri, path=images / Path(contract.image_directory(uri)).name)
    if separator and scheme == "hf" and (match := _HUB.fullmatch(rest)):
        if not {"", ".", ".."}.isdisjoint((match["revision"] or "main").split("/")):
            raise UnsuitableError(
                f'spec.model.uri: "{uri}" has no valid revision. Write a branch, a tag or a commit after @.'
            )
        return Source("hf", uri, repository=match["repository"], revision=match["revision"])
    if scheme in ("s3", "gs") and separator and (match := _BUCKET.fullmatch(rest)):
        kind: Literal["s3", "gs"] = "s3" if scheme == "s3" else "gs"
        return Source(kind, uri, bucket=match["bucket"], prefix=(match["prefix"] or "").strip("/"))
    raise UnsuitableError(
        f'spec.model.uri: "{uri}" is not a valid source. Use hf://org/name[@revision], pvc://claim/path, '
        "s3://bucket/prefix, gs://bucket/prefix, oci://image or file:///path."
    )


def resolve(
    source: Source,
    *,
    cache: Path,
    token: str | None,
    holds: str = selection.CONFIG,
    files: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> Path:
    """Return the folder of the model or adapter, after a download if it is remote. It must contain the file `holds`.

    `files` are patterns of the files to download; None downloads the files that vLLM reads.
    """
    folder = source.path
    if folder is None:
        fetched = None if holds == selection.ADAPTER_CONFIG else _fetched(source, cache, files)
        folder = fetched or _download(
            source, cache=cache, token=token, files=files, progress=progress
        )
    elif source.kind == "oci":
        folder = _in_image(source, folder, holds=holds)
    if not folder.is_dir():
        place = f"claim {source.uri.split('/')[2]}" if source.kind == "pvc" else "the container"
        raise EngineError(f"{source.uri}: there is no folder {folder} in {place}.")
    if not _is_there(folder, holds):
        what = "a model" if holds == selection.CONFIG else "an adapter"
        other = f" and no {selection.MISTRAL_CONFIG}" if holds == selection.CONFIG else ""
        raise EngineError(f"{source.uri}: {folder} has no {holds}{other}, so it is not {what}.")
    index = folder / selection.INDEX
    if files is None and index.is_file():
        wanted = selection.shards(index.read_bytes(), uri=source.uri)
        there = folder
        selection.check_whole(
            wanted, is_there=lambda name: (there / name).is_file(), uri=source.uri
        )
    if files is None and holds == selection.CONFIG and not source.remote:
        _check_weights(folder, uri=source.uri)
    return folder


def _check_weights(folder: Path, *, uri: str) -> None:
    """Raise EngineError if files of weights are empty, Git LFS pointers, or in a format that vLLM can't read."""
    files = {path.name: path.stat().st_size for path in folder.iterdir() if path.is_file()}
    selection.check_form(files, uri=uri)
    selection.check_not_empty(files, uri=uri)
    for name, size in files.items():
        if name.endswith(".safetensors") and size < _POINTER_BYTES:
            with (folder / name).open("rb") as file:
                if file.read(len(_POINTER)) == _POINTER:
                    raise EngineError(
                        f"{uri}: {name} is a Git LFS pointer, not weights. Run git lfs pull."
                    )


def wanted(folder: Path, names: Collection[str]) -> list[str]:
    """Return the files of a model's folder that an engine reads."""
    index = folder / selection.INDEX
    if not index.is_file():
        return selection.choose(names)
    return selection.choose(
        names, shards=selection.shards(index.read_bytes(), uri=folder.as_posix())
    )


def downloader(
    source: Source,
    *,
    cache: Path,
    token: str | None,
    files: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> Any:
    """Return the download of a remote source; it has `folder()` and `inspect()`."""
    # NB: importing either library takes as long as the rest of this package.
    if source.kind == "hf":
        from slipstream_runtime.model_files import hub  # noqa: PLC0415

        assert source.repository is not None
        return hub.Download(
            source.uri,
            source.repository,
            revision=source.revision,
            cache=cache,
            token=token,
            files=files,
            progress=progress,
        )
    try:
        from slipstream_runtime.model_files import buckets  # noqa: PLC0415
    except ImportError as error:
        raise UnsuitableError(
            f"{source.uri}: this image lacks obstore, which reads {source.kind}://. Use a newer image."
        ) from error
    assert source.bucket is not None
    return buckets.Download(
        source.uri,
        source.kind,
        source.bucket,
        source.prefix,
        cache=cache,
        files=files,
        progress=progress,
    )


def _download(
    source: Source,
    *,
    cache: Path,
    token: str | None,
    files: Sequence[str] | None,
    progress: Progress | None,
) -> Path:
    download = downloader(source, cache=cache, token=token, files=files, progress=progress)
    # NB: all revisions of a repository share files, so they share a lock.
    with locks.held(
        cache, f"hf://{source.repository}" if source.repository else source.uri
    ) as alone:
        if alone:
            download.tidy()
        folder: Path = download.folder()
        return folder


def _fetched(source: Source, cache: Path, files: Sequence[str] | None) -> Path | None:
    """Return the complete folder that a Job downloaded before this pod started."""
    if files is not None or not os.environ.get(contract.FETCHED_ENV):
        return None
    return records.find(cache, source.uri)


def _is_there(folder: Path, holds: str) -> bool:
    """Whether the folder holds the file, or the one of the same purpose in Mistral's format."""
    names = (selection.CONFIG, selection.MISTRAL_CONFIG) if holds == selection.CONFIG else (holds,)
    return any((folder / name).is_file() for name in names)


def _in_image(source: Source, mounted: Path, *, holds: str) -> Path:
    """Return the folder of a mounted image that holds the model; EngineError if none does."""
    for name in _IMAGE_FOLDERS:
        if _is_there(mounted / name, holds):
            return mounted / name
    if mounted.is_dir():
        found = "is empty" if not any(mounted.iterdir()) else f"has no {holds}"
        raise EngineError(
            f"{source.uri}: the image {found}. It must be an ordinary container image (configuration "
            f"application/vnd.oci.image.config.v1+json, layers in tar form) with {holds} at its root or in /models; "
            "artifacts such as ModelPack's are mounted as an empty folder."
        )
    raise EngineError(f"{source.uri}: no image is mounted at {mounted}.")
