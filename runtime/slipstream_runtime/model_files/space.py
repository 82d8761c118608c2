"""Check of the cache's free space before a download starts."""

import shutil
from pathlib import Path
from typing import Final

from slipstream_runtime.errors import EngineError

_RESERVE_BYTES: Final = 64 << 20
"""Bytes that stay free for records, logs and compiled kernels."""


def check(folder: Path, *, needed: int, uri: str) -> None:
    """Raise EngineError if the folder's disk has less than `needed` bytes free."""
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if needed and needed + _RESERVE_BYTES > free:
        raise EngineError(
            f"{uri}: {size(needed)} remain to be downloaded, and the cache has {size(free)} free. Use a larger claim "
            "in spec.cache.model.claim, or free some space."
        )


def size(number: float) -> str:
    """Return bytes as text in the largest unit of which there is at least 1, such as `15.2 GiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.0f} B" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"
