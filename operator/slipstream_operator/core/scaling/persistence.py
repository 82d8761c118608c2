"""Scaling state as text, for the service's state ConfigMap."""

import dataclasses
import json
import math
from typing import Any, Final

import pydantic

from slipstream_operator.core import objectives
from slipstream_operator.core.scaling.models import forecast, sizing, steptime
from slipstream_operator.core.scaling.models.steptime import Row
from slipstream_operator.core.scaling.state import State

_DIGITS: Final = 4
"""Significant digits."""
_KEPT: Final = (
    "desired", "since", "reason", "revision", "model", "feedback", "concurrency", "cold",
    "outlook", "spikes", "caution", "lowered_at", "lowered_from", "mix",
)  # fmt: skip
"""Fields of State that survive a restart. Recent needs don't: no scale-down happens before a whole new window."""
_KEPT_OF: Final = {
    "model": ("rows",),
    "outlook": ("losses", "spread", "season"),
    "spikes": ("long", "short"),
}
_EXACT: Final = ("since", "lowered_at")
_LARGEST: Final = 1e9
"""Largest plausible number of replicas, requests or factor; anything larger is malformed."""
_LEAST: Final = 1e-12
"""Smallest plausible batch, or seconds of a step."""
_LAST_TIME: Final = 253402300799.0
"""Last second of the year 9999, since the epoch: no later time can be written."""
_LONGEST_TEXT: Final = 1024
"""Characters of a reason, as in status, or of the name of a revision."""
_LARGEST_LOG: Final = 30.0
"""Largest plausible logarithm of the seconds of a start."""
_ADAPTER: Final = pydantic.TypeAdapter(State)


def dump(state: State) -> str:
    """Return the state as sorted and rounded JSON, so that a steady service gives the same text each time."""
    data = {}
    for name in _KEPT:
        value: Any = getattr(state, name)
        if dataclasses.is_dataclass(value):
            wanted = _KEPT_OF.get(name)
            fields = wanted or [field.name for field in dataclasses.fields(value)]
            value = {field: _plain(getattr(value, field)) for field in fields}
        data[name] = round(value, 1) if name in _EXACT else _plain(value)
    return json.dumps(data, sort_keys=True, separators=(",", ":"))


def load(text: str, *, now: float = math.inf) -> State | None:
    """Return the saved state; None if the text is malformed, as after an edit by hand.

    Times after `now`, in seconds since the epoch, are set to it: they were written by another clock.
    """
    try:
        state = _ADAPTER.validate_python(_kept(json.loads(text, parse_constant=_refuse)))
        if not _in_range(state):
            return None
        return dataclasses.replace(
            state,
            model=steptime.fit(state.model.rows),
            since=min(state.since, now),
            lowered_at=min(state.lowered_at, now),
        )
    except (ValueError, TypeError, OverflowError, ZeroDivisionError, RecursionError):
        return None


def _kept(data: Any) -> Any:
    """Return only the fields that `dump` writes: all others are values of a running process."""
    if not isinstance(data, dict):
        raise TypeError("the state is no object")
    kept = {name: data[name] for name in _KEPT if name in data}
    for name, fields in _KEPT_OF.items():
        if isinstance(kept.get(name), dict):
            kept[name] = {field: kept[name][field] for field in fields if field in kept[name]}
    return kept


def _in_range(state: State) -> bool:
    """Whether all numbers are in the range that decisions can produce and use."""
    cold, season, mix = state.cold, state.outlook.season, state.mix
    return (
        0 <= state.since <= _LAST_TIME
        and 0 <= state.lowered_at <= _LAST_TIME
        and len(state.reason) <= _LONGEST_TEXT
        and len(state.revision) <= _LONGEST_TEXT
        and len(state.model.rows) <= steptime.CLASSES
        and all(_is_row(row) for row in state.model.rows)
        and len(season) in (0, forecast.BUCKETS)
        and all(-1 <= one <= _LARGEST for one in season)
        and (mix is None or mix.plausible)
        and state.feedback.corrections.keys() <= set(objectives.METRICS)
        and 0 <= state.desired <= _LARGEST
        and 0 <= state.lowered_from <= _LARGEST
        and (state.concurrency is None or 1 <= state.concurrency <= _LARGEST)
        and 0 <= cold.count <= _LARGEST
        and 0 <= cold.variance <= _LARGEST_LOG
        and abs(cold.mean) <= _LARGEST_LOG
        and 0 < state.caution <= _LARGEST
        and 0 < state.feedback.kappa <= _LARGEST
        and all(0 < one <= _LARGEST for one in state.feedback.corrections.values())
        and all(0 <= one <= _LARGEST for one in (*state.outlook.losses, state.outlook.spread))
        and all(0 <= one <= _LARGEST for one in (state.spikes.long, state.spikes.short))
        and state.spikes.long + state.spikes.short > 0
    )


def _is_row(row: Row) -> bool:
    return (
        0 < row.count <= _LARGEST
        and _LEAST <= row.batch <= _LARGEST
        and 0 <= row.context <= sizing.MOST_TOKENS
        and 0 <= row.prompt <= sizing.MOST_TOKENS
        and _LEAST <= row.seconds <= _LARGEST
    )


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}")
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)
        }
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is not a finite number")
