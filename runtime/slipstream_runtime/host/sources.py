"""From a model's URI to a folder with its files.

Nothing here may log or repeat the hub's token.
"""

import dataclasses
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

from slipstream_runtime import contract
from slipstream_runtime.host.errors import EngineError, UnsuitableError

_HUB: Final = re.compile(r"(?P<repository>[^/@]+/[^/@]+)(?:@(?P<revision>.+))?")


@dataclasses.dataclass(frozen=True)
class Source:
    """A parsed URI: a folder of this machine, or a repository of the hub."""

    kind: Literal["file", "pvc", "hf"]
    uri: str
    path: Path | None = None
    repository: str | None = None
    revision: str | None = None

    @property
    def local(self) -> bool:
        """Whether no network is needed."""
        return self.kind != "hf"


def cache_folder(folder: Path = Path(contract.CACHE_DIRECTORY)) -> Path:
    """Where downloads are kept, if it exists, as in every pod; UnsuitableError if nothing can be written there."""
    if folder.is_dir() and not os.access(folder, os.W_OK | os.X_OK):
        raise UnsuitableError(
            f"spec.cache.model: user {os.getuid()} can't write to the folder: let it belong to that user, or to group "
            f"{os.getgid()} with write permission"
        )
    return folder


def token() -> str | None:
    """For gated sources of the hub."""
    return os.environ.get(contract.MODEL_TOKEN_ENV) or None


def parse(uri: str, *, claims: Path = Path(contract.CLAIMS_DIRECTORY)) -> Source:
    """Parse `file:///path`, `pvc://claim/path` or `hf://org/name[@revision]`."""
    scheme, separator, rest = uri.partition("://")
    if separator and scheme == "file" and rest.startswith("/"):
        return Source("file", uri, path=Path(rest))
    if separator and scheme == "pvc" and rest.strip("/"):
        if ".." in Path(rest).parts:
            raise UnsuitableError(f'spec.model.uri: "{uri}" leaves its claim')
        return Source("pvc", uri, path=claims / rest.lstrip("/"))
    if separator and scheme == "hf" and (match := _HUB.fullmatch(rest)):
        return Source("hf", uri, repository=match["repository"], revision=match["revision"])
    raise UnsuitableError(
        f'spec.model.uri: "{uri}" is none of file:///path, pvc://claim/path and hf://org/name[@revision]'
    )


def resolve(
    source: Source,
    *,
    cache: Path,
    token: str | None,
    holds: str = "config.json",
    files: Sequence[str] | None = None,
) -> Path:
    """The folder that holds the model, or whatever the file `holds` tells, after a download if the source is the hub.

    `files` are patterns of what is needed, as for the hub.
    """
    folder = source.path
    if folder is None:
        # NB: importing the hub's library takes as long as all the rest of this package.
        from slipstream_runtime.host import hub  # noqa: PLC0415

        assert source.repository is not None
        folder = hub.download(
            source.uri,
            source.repository,
            revision=source.revision,
            cache=cache,
            token=token,
            files=files,
        )
    if not folder.is_dir():
        place = f"claim {source.uri.split('/')[2]}" if source.kind == "pvc" else "the container"
        raise EngineError(f"{source.uri}: there is no folder {folder} in {place}")
    if not (folder / holds).is_file():
        what = "a model" if holds == "config.json" else "an adapter"
        raise EngineError(f"{source.uri}: {folder} holds no {holds}, so it is not {what}")
    return folder
