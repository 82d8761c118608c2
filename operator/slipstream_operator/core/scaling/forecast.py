"""The load when a pod that is ordered now would be ready.

Three forecasters run side by side: the last value, damped Holt, and the same time of the day before. Those that
forecast worse than the last value count for nothing.
"""

import dataclasses
import math
from typing import Final

STEP: Final = 15.0
"""Seconds between two updates."""
BUCKETS: Final = 96
"""Quarters of an hour of a day."""
_DAY: Final = 86400.0
_DAMPING: Final = 0.97
_LEVEL: Final = 0.3
_TREND: Final = 0.1
_FORGET: Final = 0.98
_SHARPNESS: Final = 8.0
_PENDING: Final = 24
QUANTILE: Final = 0.8
"""The share of the residuals that the forecast covers: what a missing replica costs to what a spare one does."""
_GROWTH: Final = 4.0
"""No forecast is higher than this times the present load."""
_MOST_SPREAD: Final = 0.2
_SEASON_SHARE: Final = 0.5


@dataclasses.dataclass(frozen=True, slots=True)
class Pending:
    """Forecasts whose time has not come."""

    due: float
    last: float
    trend: float
    season: float


@dataclasses.dataclass(frozen=True, slots=True)
class Outlook:
    """What the forecasters remember. Load is in replicas."""

    at: float = 0.0
    level: float = 0.0
    slope: float = 0.0
    """Per STEP."""
    pending: tuple[Pending, ...] = ()
    losses: tuple[float, float, float] = (0.0, 0.0, 0.0)
    spread: float = 0.0
    """The `QUANTILE` of the residuals of the combined forecast, as a share of the load."""
    season: tuple[float, ...] = ()
    """Mean load by quarter of an hour of the day; less than 0 where it was never seen."""


def update(outlook: Outlook, load: float, *, now: float, horizon: float) -> Outlook:
    """Take in the present load; nothing happens within STEP seconds of the last one."""
    passed = now - outlook.at
    if passed < STEP:
        return outlook
    if outlook.at == 0 or passed > 4 * horizon:
        return dataclasses.replace(
            outlook, at=now, level=load, slope=0.0, pending=(), season=_seen(outlook, load, now)
        )
    steps = passed / STEP
    expected = outlook.level + outlook.slope * steps
    level = expected + (1 - (1 - _LEVEL) ** steps) * (load - expected)
    slope = outlook.slope + _TREND * ((level - outlook.level) / steps - outlook.slope)
    outlook = _judged(outlook, load, now)
    outlook = dataclasses.replace(
        outlook, at=now, level=level, slope=slope, season=_seen(outlook, load, now)
    )
    if outlook.pending and outlook.pending[-1].due - horizon + horizon / _PENDING * 2 > now:
        return outlook
    last, trend, season = _members(outlook, load, now, horizon)
    pending = (*outlook.pending[-_PENDING:], Pending(now + horizon, last, trend, season))
    return dataclasses.replace(outlook, pending=pending)


def ahead(outlook: Outlook, load: float, *, now: float, horizon: float) -> float:
    """The load at the horizon, at the QUANTILE of what was wrong before; never less than the present load."""
    median = _combined(outlook.losses, _members(outlook, load, now, horizon))
    return min(max(load, median + outlook.spread * load), _GROWTH * load)


def _members(
    outlook: Outlook, load: float, now: float, horizon: float
) -> tuple[float, float, float]:
    steps = horizon / STEP
    damped = _DAMPING * (1 - _DAMPING**steps) / (1 - _DAMPING)
    trend = max(0.0, outlook.level + outlook.slope * damped)
    then, present = (_season(outlook, at) for at in (now + horizon, now))
    season = outlook.level
    if then is not None and present is not None and present > 0:
        season = outlook.level * min(then / present, _GROWTH)
    return outlook.level, trend, season


def _combined(losses: tuple[float, float, float], members: tuple[float, float, float]) -> float:
    """Weighted by past losses; a member that was worse than the last value has no weight."""
    reference = max(losses[0], 1e-9)
    total = weighted = 0.0
    for loss, value in zip(losses, members, strict=True):
        if loss <= losses[0]:
            weight = math.exp(_SHARPNESS * (reference - loss) / reference)
            total += weight
            weighted += weight * value
    return weighted / total


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
    residual = load - _combined(outlook.losses, members)
    share = residual / max(load, entry.last, 0.1)
    step = max(0.005, 0.1 * abs(outlook.spread))
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
