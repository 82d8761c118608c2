"""numba's compiler with types that survive it."""

from collections.abc import Callable
from typing import TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., object])


def compiled(function: F) -> F:
    """The function as machine code, kept on disk for the next process."""
    return cast(F, numba.njit(cache=True)(function))
