"""Forecast of the load at the time when a pod that is started now would be ready.

Recurring load (`cycles`) is forecast from the load one period earlier. Otherwise there are three forecasters: the last
value, the significant trend of the last minutes, and the same time of the previous days. A forecaster that was worse
than the last value has no weight.
"""

import dataclasses
import math
import struct
from collections.abc import Sequence
from typing import Final

from slipstream_operator.core.scaling.models import cycles
from slipstream_operator.core.scaling.models.cycles import Cycles

STEP: Final = 15.0
"""Seconds between two updates."""
BUCKETS: Final = 96
"""Quarters of an hour of a day."""
MOST_LOAD: Final = 1e6
"""Busy replicas from which on more make no difference: implausible metrics of a pod can mean any load."""
_DAY: Final = 86400.0
"""Seconds."""
_LEVEL: Final = 0.3
"""Weight of a new load in the smoothed level, for each STEP."""
_POINTS: Final = (8, 16, 32)
"""Numbers of points that are searched for a trend: 2, 4 and 8 minutes. Few show it soon, many show a slow one."""
_MIN_STANDARD_ERRORS: Final = 6.0
"""Standard errors that a slope must exceed to count as a trend."""
_OVERLAP: Final = 2.0
"""Factor of the standard error: rates over a minute share most of their samples, so points are not independent."""
_JUMP: Final = 0.2
"""Share by which a load may differ from the last one; a larger step starts a new trend line."""
_TREND_GROWTH: Final = 2.0
"""Factor of the current load that a trend forecasts at most."""
_TOLERANCE: Final = 1.25
"""Losses of the trend over those of the last value from which the trend no longer counts."""
_LOSS_DECAY: Final = 0.98
"""Weight of past losses against the newest one: about the last 50 forecasts count."""
_SHARPNESS: Final = 8.0
"""Exponent of the weights: a forecaster with 10 % less loss has 2.2 times the weight."""
_PENDING: Final = 24
"""Largest number of forecasts that await comparison, to bound memory."""
QUANTILE: Final = 0.88
"""Quantile of the load that is forecast: the cost of a missing replica over that of a missing and a spare one."""
_GROWTH: Final = 4.0
"""Factor of the current load that any forecast is limited to."""
_MAX_SPREAD: Final = 0.25
"""Largest margin above the median forecast, as a share of the load."""
_SEASON_SHARE: Final = 0.5
"""Weight of the newest day in the mean load of a quarter of an hour."""
_POINT: Final = struct.Struct("2d")
"""Time and load."""


@dataclasses.dataclass(frozen=True, slots=True)
class Pending:
    """Forecast of each forecaster for a future time, to compare with the load then."""

    due: float
    last: float
    trend: float
    season: float
    cycle: float | None
    """None without a period, or if the load differed from that of one period earlier."""


@dataclasses.dataclass(frozen=True, slots=True)
class Outlook:
    """State of the forecasters. Load is in replicas, time in seconds since the epoch."""

    at: float = 0.0
    level: float = 0.0
    recent: bytes = b""
    """Points since the last jump, oldest first, packed to save memory."""
    line: tuple[float, float] = (0.0, 0.0)
    """Trend line through these points: load at its end, and slope per second; 0 without a trend."""
    rising_since: float | None = None
    """Start of the current rising trend."""
    pending: tuple[Pending, ...] = ()
    losses: tuple[float, float, float] = (0.0, 0.0, 0.0)
    spread: float = 0.1
    """The `QUANTILE` of the residuals of the combined forecast, as a share of the load."""
    season: tuple[float, ...] = ()
    """Mean load by quarter of an hour of the day; negative if unknown."""
    cycles: Cycles = dataclasses.field(default_factory=Cycles)
    """The load of the last hours by minutes, and the period in it."""


def update(outlook: Outlook, load: float, *, now: float, horizon: float) -> Outlook:
    """Return the state with the current load; unchanged within STEP seconds of the last one."""
    passed = now - outlook.at
    if passed < STEP:
        return outlook
    load = min(load, MOST_LOAD)
    outlook = dataclasses.replace(
        outlook,
        season=_seen(outlook, load, now),
        cycles=cycles.record(outlook.cycles, load, now=now),
    )
    if outlook.at == 0 or passed > 4 * horizon:
        return dataclasses.replace(
            outlook,
            at=now,
            level=load,
            recent=_POINT.pack(now, load),
            line=(load, 0.0),
            rising_since=None,
            pending=(),
        )
    level = load + (1 - _LEVEL) ** (passed / STEP) * (outlook.level - load)
    recent = _since_jump(outlook.recent, load, now)
    line, began = _trend([*_POINT.iter_unpack(recent)])
    outlook = _judged(outlook, load, now)
    outlook = dataclasses.replace(
        outlook,
        at=now,
        level=level,
        recent=recent,
        line=line,
        rising_since=_rising_since(outlook, slope=line[1], began=began),
    )
    if outlook.pending and outlook.pending[-1].due - horizon + horizon / _PENDING * 2 > now:
        return outlook
    last, trend, season = _members(outlook, load, now, horizon)
    cycle = cycles.ahead(outlook.cycles, seconds=horizon)
    pending = (*outlook.pending[-_PENDING:], Pending(now + horizon, last, trend, season, cycle))
    return dataclasses.replace(outlook, pending=pending)


def ahead(outlook: Outlook, load: float, *, now: float, horizon: float) -> float:
    """Return the QUANTILE of the load at the horizon; never less than the current load."""
    cycle = cycles.ahead(outlook.cycles, seconds=horizon)
    if cycle is not None:
        return max(load, cycle + outlook.spread * load)
    median = _combined(outlook.losses, _members(outlook, load, now, horizon))
    return min(max(load, median + outlook.spread * load), _GROWTH * load)


def cyclic(outlook: Outlook) -> bool:
    """Whether load recurs, and is now what it was one period earlier."""
    return cycles.ahead(outlook.cycles, seconds=0.0) is not None


def foreseen(outlook: Outlook, load: float, *, horizon: float) -> bool:
    """Whether recurring load reaches this load again within the horizon."""
    cycle = cycles.ahead(outlook.cycles, seconds=horizon)
    return cycle is not None and cycle >= load


def _since_jump(recent: bytes, load: float, now: float) -> bytes:
    point = _POINT.pack(now, load)
    if not recent:
        return point
    _, last = _POINT.unpack_from(recent, len(recent) - _POINT.size)
    if abs(load - last) > _JUMP * max(last, load):
        return point
    return recent[_POINT.size * (1 - _POINTS[-1]) :] + point


def _rising_since(outlook: Outlook, *, slope: float, began: float) -> float | None:
    if slope <= 0:
        return None
    return began if outlook.rising_since is None else outlook.rising_since


def _trend(points: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], float]:
    """Return the steepest rising, or least falling, significant trend line and its start."""
    # NB: with at most half of the points, the next smaller count covers all of them.
    found = [
        (line, points[-count:][0][0])
        for count in _POINTS
        if len(points) > count // 2 and (line := _line(points[-count:]))[1] != 0
    ]
    return max(found, key=lambda one: one[0][1], default=((points[-1][1], 0.0), points[-1][0]))


def _line(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return end and slope of the least-squares line, as in Outlook."""
    count = len(points)
    if count < _POINTS[0]:
        return points[-1][1], 0.0
    middle = sum([at for at, _ in points]) / count
    mean = sum([load for _, load in points]) / count
    spread = sum([(at - middle) ** 2 for at, _ in points])
    slope = sum([(at - middle) * (load - mean) for at, load in points]) / spread
    rest = sum([(load - mean - slope * (at - middle)) ** 2 for at, load in points])
    error = _OVERLAP * math.sqrt(rest / (count - 2) / spread)
    if abs(slope) <= _MIN_STANDARD_ERRORS * error:
        return points[-1][1], 0.0
    return mean + slope * (points[-1][0] - middle), slope


def falling(outlook: Outlook) -> bool:
    """Whether load has a significant falling trend."""
    return outlook.line[1] < 0


def _members(
    outlook: Outlook, load: float, now: float, horizon: float
) -> tuple[float, float, float]:
    trend = outlook.level
    if outlook.rising_since is not None:
        # NB: a trend is assumed to last as long again as it has lasted.
        end, slope = outlook.line
        grown = end + slope * min(horizon, now - outlook.rising_since)
        trend = max(trend, min(grown, _TREND_GROWTH * max(end, load)))
    then, present = (_season(outlook, at) for at in (now + horizon, now))
    season = outlook.level
    if then is not None and present is not None and present > 0:
        season = outlook.level * min(then / present, _GROWTH)
    return outlook.level, trend, season


def _combined(losses: tuple[float, float, float], members: tuple[float, float, float]) -> float:
    """Return the mean of the last value and the season, weighted by past losses, or the trend if it is higher.

    A season that was worse than the last value has no weight.
    """
    last, trend, season = members
    weight = 0.0
    if losses[2] <= losses[0]:
        weight = math.exp(_SHARPNESS * (1 - losses[2] / max(losses[0], 1e-9)))
    usual = (last + weight * season) / (1 + weight)
    return max(usual, trend) if losses[1] <= _TOLERANCE * losses[0] + 1e-9 else usual


def _judged(outlook: Outlook, load: float, now: float) -> Outlook:
    """Compare due forecasts with the current load."""
    due = [entry for entry in outlook.pending if entry.due <= now]
    if not due:
        return outlook
    entry = due[-1]
    members = (entry.last, entry.trend, entry.season)
    losses = tuple(
        _LOSS_DECAY * loss + _pinball(load - value)
        for loss, value in zip(outlook.losses, members, strict=True)
    )
    residual = load - (_combined(outlook.losses, members) if entry.cycle is None else entry.cycle)
    share = residual / max(load, entry.last, 0.1)
    step = max(0.01, 0.1 * abs(outlook.spread))
    spread = outlook.spread + step * (QUANTILE if share > outlook.spread else QUANTILE - 1)
    return dataclasses.replace(
        outlook,
        pending=tuple(other for other in outlook.pending if other.due > now),
        losses=(losses[0], losses[1], losses[2]),
        spread=min(max(spread, 0.0), _MAX_SPREAD),
    )


def _pinball(error: float) -> float:
    return QUANTILE * error if error > 0 else (QUANTILE - 1) * error


def _season(outlook: Outlook, at: float) -> float | None:
    """Return the load of that time of day, interpolated between two quarters of an hour."""
    if not outlook.season:
        return None
    place = at % _DAY / _DAY * BUCKETS - 0.5
    low = math.floor(place)
    share = place - low
    left, right = outlook.season[low % BUCKETS], outlook.season[(low + 1) % BUCKETS]
    if left < 0 or right < 0:
        return None
    return left + share * (right - left)


def _seen(outlook: Outlook, load: float, now: float) -> tuple[float, ...]:
    """Return the season; when a quarter of an hour ends, the level is added to its mean."""
    bucket = int(now % _DAY / _DAY * BUCKETS)
    before = int(outlook.at % _DAY / _DAY * BUCKETS)
    if outlook.at == 0 or bucket == before:
        return outlook.season
    season = list(outlook.season or (-1.0,) * BUCKETS)
    known = season[before]
    season[before] = outlook.level if known < 0 else known + _SEASON_SHARE * (outlook.level - known)
    return tuple(season)
