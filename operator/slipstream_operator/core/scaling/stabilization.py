"""The needs of the last minutes: a scale-down follows the highest of them."""

import math
from typing import Final, TypeAlias

Needs: TypeAlias = tuple[tuple[float, int], ...]
"""Start of a slot of time, and the highest need in it; the oldest first."""

_SLOTS: Final = 10


def record(needs: Needs, need: int, *, now: float, window: float) -> Needs:
    """With one more need, and without those that are older than the window."""
    kept = tuple([slot for slot in needs if slot[0] > now - window])
    if kept and now - kept[-1][0] < window / _SLOTS:
        return (*kept[:-1], (kept[-1][0], max(kept[-1][1], need)))
    return (*kept, (now, need))


def highest(needs: Needs, *, since: float = -math.inf) -> int:
    """The highest since then; 0 if there is none."""
    return max([need for at, need in needs if at >= since], default=0)
