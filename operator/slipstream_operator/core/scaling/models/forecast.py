"""The load when a pod that is ordered now would be ready.

Load that is known to come again (`cycles`) is foreseen by what came a period ago. Otherwise three forecasters run
side by side: the last value, the trend of the last minutes if there is one beyond doubt, and the same time of the day
before. Those that forecast worse than the last value count for nothing.
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
_DAY: Final = 86400.0
_LEVEL: Final = 0.3
_POINTS: Final = (8, 16, 32)
"""So many of the last loads are looked at for a trend: few show it soon, many show a slow one."""
_CERTAIN: Final = 6.0
"""A trend is as many times the standard error of its slope."""
_OVERLAP: Final = 2.0
"""How much larger that error is than of independent points: rates over a minute share most of their samples."""
_JUMP: Final = 0.2
"""A load that differs by such a share from the last one begins anew: a step is no trend."""
_TREND_GROWTH: Final = 2.0
"""A trend foresees no more than this times the present load."""
_TOLERANCE: Final = 1.25
"""A trend counts until its losses are so many times those of the last value."""
_FORGET: Final = 0.98
_SHARPNESS: Final = 8.0
_PENDING: Final = 24
QUANTILE: Final = 0.88
"""The share of the residuals that the forecast covers: what a missing replica costs to what a spare one does."""
_GROWTH: Final = 4.0
"""No forecast is higher than this times the present load."""
_MOST_SPREAD: Final = 0.25
_SEASON_SHARE: Final = 0.5
_POINT: Final = struct.Struct("2d")
"""Time and load."""


@dataclasses.dataclass(frozen=True, slots=True)
class Pending:
    """Forecasts whose time has not come."""

    due: float
    last: float
    trend: float
    season: float
    cycle: float | None
    """None where no period was known, or the load was not where it was a period ago."""


@dataclasses.dataclass(frozen=True, slots=True)
class Outlook:
    """State of the forecasters. Load is in replicas."""

    at: float = 0.0
    level: float = 0.0
    recent: bytes = b""
    """Points since the last jump, the oldest first: small, for thousands of services."""
    line: tuple[float, float] = (0.0, 0.0)
    """Through these: the load at its end, and its slope per second; 0 unless it is beyond doubt."""
    rising_since: float | None = None
    """When the trend began that goes up now."""
    pending: tuple[Pending, ...] = ()
    losses: tuple[float, float, float] = (0.0, 0.0, 0.0)
    spread: float = 0.1
    """The `QUANTILE` of the residuals of the combined forecast, as a share of the load."""
    season: tuple[float, ...] = ()
    """Mean load by quarter of an hour of the day; less than 0 where it was never seen."""
    cycles: Cycles = dataclasses.field(default_factory=Cycles)
    """The load of the last hours by minutes, and the period in it."""


def update(outlook: Outlook, load: float, *, now: float, horizon: float) -> Outlook:
    """Take in the present load; nothing happens within STEP seconds of the last one."""
    passed = now - outlook.at
    if passed < STEP:
        return outlook
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
    """The load at the horizon, at the QUANTILE of what was wrong before; never less than the present load."""
    cycle = cycles.ahead(outlook.cycles, seconds=horizon)
    if cycle is not None:
        return max(load, cycle + outlook.spread * load)
    median = _combined(outlook.losses, _members(outlook, load, now, horizon))
    return min(max(load, median + outlook.spread * load), _GROWTH * load)


def cyclic(outlook: Outlook) -> bool:
    """Whether load is where it was a period ago."""
    return cycles.ahead(outlook.cycles, seconds=0.0) is not None


def foreseen(outlook: Outlook, load: float, *, horizon: float) -> bool:
    """Whether a load like this is known to come again by then."""
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
    """The line that rises most, or falls least, of those that are beyond doubt, and when it began."""
    # NB: with half as many points or less, the next smaller count has looked at all of them.
    found = [
        (line, points[-count:][0][0])
        for count in _POINTS
        if len(points) > count // 2 and (line := _line(points[-count:]))[1] != 0
    ]
    return max(found, key=lambda one: one[0][1], default=((points[-1][1], 0.0), points[-1][0]))


def _line(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """The least-squares line: its end and slope, as in Outlook."""
    count = len(points)
    if count < _POINTS[0]:
        return points[-1][1], 0.0
    middle = sum([at for at, _ in points]) / count
    mean = sum([load for _, load in points]) / count
    spread = sum([(at - middle) ** 2 for at, _ in points])
    slope = sum([(at - middle) * (load - mean) for at, load in points]) / spread
    rest = sum([(load - mean - slope * (at - middle)) ** 2 for at, load in points])
    error = _OVERLAP * math.sqrt(rest / (count - 2) / spread)
    if abs(slope) <= _CERTAIN * error:
        return points[-1][1], 0.0
    return mean + slope * (points[-1][0] - middle), slope


def falling(outlook: Outlook) -> bool:
    """Whether load goes down beyond doubt."""
    return outlook.line[1] < 0


def _members(
    outlook: Outlook, load: float, now: float, horizon: float
) -> tuple[float, float, float]:
    trend = outlook.level
    if outlook.rising_since is not None:
        # NB: what has lasted for so long will last for as long again, on average, and not for ever.
        end, slope = outlook.line
        grown = end + slope * min(horizon, now - outlook.rising_since)
        trend = max(trend, min(grown, _TREND_GROWTH * max(end, load)))
    then, present = (_season(outlook, at) for at in (now + horizon, now))
    season = outlook.level
    if then is not None and present is not None and present > 0:
        season = outlook.level * min(then / present, _GROWTH)
    return outlook.level, trend, season


def _combined(losses: tuple[float, float, float], members: tuple[float, float, float]) -> float:
    """The last value and the season, weighted by past losses, or the trend if it is higher.

    A season that was worse than the last value has no weight.
    """
    last, trend, season = members
    weight = 0.0
    if losses[2] <= losses[0]:
        weight = math.exp(_SHARPNESS * (1 - losses[2] / max(losses[0], 1e-9)))
    usual = (last + weight * season) / (1 + weight)
    return max(usual, trend) if losses[1] <= _TOLERANCE * losses[0] + 1e-9 else usual


def _judged(outlook: Outlook, load: float, now: float) -> Outlook:
    """Compare forecasts whose time has come with what came."""
    due = [entry for entry in outlook.pending if entry.due <= now]
    if not due:
        return outlook
    entry = due[-1]
    members = (entry.last, entry.trend, entry.season)
    losses = tuple(
        _FORGET * loss + _pinball(load - value)
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
        spread=min(max(spread, 0.0), _MOST_SPREAD),
    )


def _pinball(error: float) -> float:
    return QUANTILE * error if error > 0 else (QUANTILE - 1) * error


def _season(outlook: Outlook, at: float) -> float | None:
    """The load of that time of day, between the middles of its two quarters of an hour."""
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
    """The season, with the quarter of an hour that just began taking what the level was in the one that ended."""
    bucket = int(now % _DAY / _DAY * BUCKETS)
    before = int(outlook.at % _DAY / _DAY * BUCKETS)
    if outlook.at == 0 or bucket == before:
        return outlook.season
    season = list(outlook.season or (-1.0,) * BUCKETS)
    known = season[before]
    season[before] = outlook.level if known < 0 else known + _SEASON_SHARE * (outlook.level - known)
    return tuple(season)
