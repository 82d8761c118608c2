"""Recurring load: detection of its period, and the forecast from it.

The period is the lag with the highest autocorrelation of the load of the last hours. It counts after two and a half
periods: any two similar events have some distance from each other.
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
"""Seconds."""
_KEPT: Final = 240
"""Minutes of load that are kept: two and a half periods of 96 minutes, in 1 kB a service."""
_MIN_PERIODS: Final = 2.5
"""Periods that must have passed. Two are too few: any two spikes are one lag apart."""
_SHORTEST: Final = 8
"""Minutes of the shortest period that is detected."""
_SEARCH_MINUTES: Final = 5
"""Mean minutes between two searches for the period, to save CPU."""
_MIN_VARIATION: Final = 0.15
"""Coefficient of variation of the load below which no period is searched."""
_MIN_CORRELATION: Final = 0.8
"""Least correlation of the load with the load one period earlier."""
_DISTINCT: Final = 0.3
"""Least difference between the correlation at the period and the lowest one at a shorter lag."""
_PREFERENCE: Final = 0.9
"""Share of the best correlation from which a shorter lag is preferred: longer lags are its multiples."""
_RECENT: Final = 10
"""Minutes over which the level of the load is compared with that of one period earlier."""
_CHANGE: Final = 2.0
"""Factor by which that level may have changed; beyond it the past predicts nothing."""


@dataclasses.dataclass(frozen=True, slots=True)
class Cycles:
    """Load by minutes, and its period."""

    began: float = 0.0
    """Start of the current minute, in seconds since the epoch."""
    highest: float = 0.0
    """Highest load of the current minute, in replicas."""
    minutes: bytes = b""
    """Highest load of each whole minute, oldest first, as 32-bit floats to save memory."""
    period: int = 0
    """Period in minutes; 0 if there is none."""


def record(cycles: Cycles, load: float, *, now: float) -> Cycles:
    """Return the history with the current load; minutes without an observation repeat the last one."""
    if cycles.began == 0:
        return Cycles(now, load)
    whole = int((now - cycles.began) // MINUTE)
    if whole == 0:
        return dataclasses.replace(cycles, highest=max(cycles.highest, load))
    loads = array("f", cycles.minutes)
    loads.extend([cycles.highest] * min(whole, _KEPT))
    del loads[:-_KEPT]
    # NB: the last digits of the load are noise; they spread the searches of services that started together.
    searched = int(load * 1e6) % _SEARCH_MINUTES == 0
    return Cycles(
        began=cycles.began + whole * MINUTE,
        highest=load,
        minutes=loads.tobytes(),
        period=find(loads) if searched else cycles.period,
    )


def ahead(cycles: Cycles, *, seconds: float) -> float | None:
    """Return the highest load of the next `seconds` if the period repeats; None without a period."""
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
    """Return the lag with the highest autocorrelation, in places of the sequence; 0 if there is no period."""
    length = len(loads)
    if length < _MIN_PERIODS * _SHORTEST:
        return 0
    mean = sum(loads) / length
    centred = [load - mean for load in loads]
    if sum(map(mul, centred, centred)) <= length * (_MIN_VARIATION * mean) ** 2:
        return 0
    sums = list(itertools.accumulate(centred, initial=0.0))
    squares = list(itertools.accumulate(map(mul, centred, centred), initial=0.0))
    lowest, found = 1.0, {}
    for lag in range(1, math.floor(length / _MIN_PERIODS) + 1):
        alike = _correlation(centred, sums, squares, lag)
        lowest = min(lowest, alike)
        if lag >= _SHORTEST and alike >= max(_MIN_CORRELATION, lowest + _DISTINCT):
            found[lag] = alike
    best = max(found.values(), default=0.0)
    near = [lag for lag, alike in found.items() if alike >= _PREFERENCE * best]
    if not near:
        return 0
    peak = [lag for lag in near if lag < 1.5 * near[0]]
    return max(peak, key=lambda lag: found[lag])


def _correlation(
    centred: Sequence[float], sums: Sequence[float], squares: Sequence[float], lag: int
) -> float:
    """Return Pearson's correlation of the loads with the loads `lag` places earlier."""
    count = len(centred) - lag
    late, early = sums[-1] - sums[lag], sums[count]
    product = sum(map(mul, centred[lag:], centred)) - late * early / count
    spread = (squares[-1] - squares[lag] - late**2 / count) * (squares[count] - early**2 / count)
    return product / math.sqrt(spread) if spread > 0 else 0.0
