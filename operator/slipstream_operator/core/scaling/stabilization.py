"""Stabilization window: a scale-down follows the highest need in it, as in Kubernetes' HPA."""

import math
from typing import Final, TypeAlias

Needs: TypeAlias = tuple[tuple[float, int], ...]
"""Start of each slot of time, and the highest need in it, oldest first."""

_SLOTS: Final = 10
"""Slots of a window, which bound its memory: the window is exact to a tenth."""


def record(needs: Needs, need: int, *, now: float, window: float) -> Needs:
    """Return the needs with one more, and without needs older than the window."""
    kept = tuple([slot for slot in needs if slot[0] > now - window])
    if kept and now - kept[-1][0] < window / _SLOTS:
        return (*kept[:-1], (kept[-1][0], max(kept[-1][1], need)))
    return (*kept, (now, need))


def highest(needs: Needs, *, since: float = -math.inf) -> int:
    """Return the highest need since a time in seconds since the epoch; 0 without any."""
    return max([need for at, need in needs if at >= since], default=0)
