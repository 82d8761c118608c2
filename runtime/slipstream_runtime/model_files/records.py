"""Records of complete downloads, kept beside them in the cache.

By a record an engine finds its model without the network. A folder without one may be what a killed download left.
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
    """Return a short name for a URI, which is valid as a file name."""
    return hashlib.sha256(uri.encode()).hexdigest()[:16]


def find(cache: Path, uri: str) -> Path | None:
    """Return the folder of a complete download if all its files are still present, else None."""
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
    """Record a complete download; if the cache can't be written, the next start asks the source again."""
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
