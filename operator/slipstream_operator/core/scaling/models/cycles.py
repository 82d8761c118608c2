"""Load that comes again after the same time: how long that is, and what it foresees.

The period is the lag at which the load of the last hours resembles itself most, once it has come two and a half times:
two like events alone have some distance from each other, too.
"""

import dataclasses
import itertools
import math
import statistics
from array import array
from collections.abc import Sequence
from operator import mul
from typing import Final

MINUTE: Final = 60.0
_KEPT: Final = 240
"""Minutes that are remembered."""
_TIMES: Final = 2.5
"""So many periods must have passed."""
_SHORTEST: Final = 8
_SEARCH_MINUTES: Final = 5
"""Between two searches for the period, on average."""
_VARIES: Final = 0.15
"""Coefficient of variation below which there is nothing to foresee."""
_ALIKE: Final = 0.8
"""Correlation of the load with that of a period before, at least."""
_DISTINCT: Final = 0.3
"""The load resembles that of a period before by so much more than that of some shorter time before."""
_FIRST: Final = 0.9
"""Of lags that are nearly as good the shortest counts: the others are its multiples."""
_RECENT: Final = 10
"""Minutes in which the load is held against that of a period before."""
_CHANGE: Final = 2.0
"""The level may have changed by such a factor; if it changed more, the past says nothing."""


@dataclasses.dataclass(frozen=True, slots=True)
class Cycles:
    """The load by minutes, and the period in it; 0 if there is none."""

    began: float = 0.0
    """When the present minute began."""
    highest: float = 0.0
    """The highest load of the present minute."""
    minutes: bytes = b""
    """The highest load of each whole minute, the oldest first, in 32-bit floats: small, for thousands of services."""
    period: int = 0
    """In minutes."""


def record(cycles: Cycles, load: float, *, now: float) -> Cycles:
    """With the present load; minutes that nobody saw are taken to be as the last one."""
    if cycles.began == 0:
        return Cycles(now, load)
    whole = int((now - cycles.began) // MINUTE)
    if whole == 0:
        return dataclasses.replace(cycles, highest=max(cycles.highest, load))
    loads = array("f", cycles.minutes)
    loads.extend([cycles.highest] * min(whole, _KEPT))
    del loads[:-_KEPT]
    # NB: services that started together don't search together: digits of the load, which are noise, say when.
    searched = int(load * 1e6) % _SEARCH_MINUTES == 0
    return Cycles(
        began=cycles.began + whole * MINUTE,
        highest=load,
        minutes=loads.tobytes(),
        period=find(loads) if searched else cycles.period,
    )


def ahead(cycles: Cycles, *, seconds: float) -> float | None:
    """The highest load until so many seconds from now, if it goes on as a period ago; None if there is no telling."""
    period = cycles.period
    if period == 0:
        return None
    loads = array("f", cycles.minutes)
    recent = statistics.median(loads[-_RECENT:])
    before = statistics.median(loads[-_RECENT - period : -period])
    if not before / _CHANGE <= recent <= before * _CHANGE:
        return None
    then = max(loads[-period:][: int(seconds // MINUTE) + 2])
    return then * recent / before if before > 0 else then


def find(loads: Sequence[float]) -> int:
    """The lag, in places, at which these resemble themselves most; 0 if they don't."""
    length = len(loads)
    if length < _TIMES * _SHORTEST:
        return 0
    mean = sum(loads) / length
    centred = [load - mean for load in loads]
    if sum(map(mul, centred, centred)) <= length * (_VARIES * mean) ** 2:
        return 0
    sums = list(itertools.accumulate(centred, initial=0.0))
    squares = list(itertools.accumulate(map(mul, centred, centred), initial=0.0))
    lowest, found = 1.0, {}
    for lag in range(1, math.floor(length / _TIMES) + 1):
        alike = _correlation(centred, sums, squares, lag)
        lowest = min(lowest, alike)
        if lag >= _SHORTEST and alike >= max(_ALIKE, lowest + _DISTINCT):
            found[lag] = alike
    best = max(found.values(), default=0.0)
    near = [lag for lag, alike in found.items() if alike >= _FIRST * best]
    if not near:
        return 0
    peak = [lag for lag in near if lag < 1.5 * near[0]]
    return max(peak, key=lambda lag: found[lag])


def _correlation(
    centred: Sequence[float], sums: Sequence[float], squares: Sequence[float], lag: int
) -> float:
    """Pearson's, of the loads and those so many places before."""
    count = len(centred) - lag
    late, early = sums[-1] - sums[lag], sums[count]
    product = sum(map(mul, centred[lag:], centred)) - late * early / count
    spread = (squares[-1] - squares[lag] - late**2 / count) * (squares[count] - early**2 / count)
    return product / math.sqrt(spread) if spread > 0 else 0.0
