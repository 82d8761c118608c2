"""Records of complete downloads, kept beside them in the cache.

A record lets an engine find its model without asking the network, and tells a complete folder from one that a killed
download left behind.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

_FOLDER: Final = "records"


def identity(uri: str) -> str:
    """Return a short name of a URI that is fit for a file."""
    return hashlib.sha256(uri.encode()).hexdigest()[:16]


def find(cache: Path, uri: str) -> Path | None:
    """Return the folder of a complete download whose files are all still there; None if there is none."""
    try:
        record = json.loads(_path(cache, uri).read_text())
        folder, files = cache / record["folder"], record["files"]
        inside = Path(os.path.normpath(folder)).is_relative_to(os.path.normpath(cache))
        whole = (
            inside
            and record["uri"] == uri
            and all((folder / name).stat().st_size == size for name, size in files.items())
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    return folder if whole else None


def keep(cache: Path, uri: str, folder: Path, sizes: Mapping[str, int]) -> None:
    """Record a complete download; a cache that can't be written keeps none, and the next start asks the source."""
    record = {
        "uri": uri,
        "folder": str(folder.resolve().relative_to(cache.resolve())),
        "files": dict(sorted(sizes.items())),
    }
    path = _path(cache, uri)
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.{os.getpid()}")
        partial.write_text(json.dumps(record))
        partial.replace(path)


def _path(cache: Path, uri: str) -> Path:
    return cache / _FOLDER / f"{identity(uri)}.json"
