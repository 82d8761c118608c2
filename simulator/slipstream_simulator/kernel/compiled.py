"""numba's compiler with types that survive it, and a cache on disk that knows all sources of the kernel."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., object])


def _cache() -> Path:
    """A folder for this version of the kernel: numba itself would look only at the file of each function."""
    sources = sorted(Path(__file__).parent.glob("*.py"))
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "slipstream" / f"kernel-{digest[:16]}"


numba.config.CACHE_DIR = str(_cache())


def compiled(function: F) -> F:
    """The function as machine code.

    NB: without numba's reference counts, which cost more than all else here: no array is made or kept inside.
    """
    return cast(F, numba.njit(cache=True, forceinline=True, _nrt=False)(function))
