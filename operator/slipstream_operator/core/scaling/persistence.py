"""Scaling state as text, for the service's state ConfigMap."""

import dataclasses
import json
import math
from typing import Any, Final

import pydantic

from slipstream_operator.core.scaling.models import forecast, steptime
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


def load(text: str) -> State | None:
    """Return the saved state; None if the text is malformed, as after an edit by hand."""
    try:
        state = _ADAPTER.validate_python(json.loads(text, parse_constant=_refuse))
        rows = state.model.rows
        if any(min(row.count, row.batch, row.seconds) <= 0 for row in rows):
            return None
        if state.mix is not None and state.mix.output <= 0:
            return None
        if len(state.outlook.season) not in (0, forecast.BUCKETS) or math.isinf(state.since):
            return None
        if not _in_range(state):
            return None
        return dataclasses.replace(state, model=steptime.fit(rows))
    except (ValueError, TypeError, OverflowError, ZeroDivisionError, RecursionError):
        return None


def _in_range(state: State) -> bool:
    """Whether all numbers are in the range that decisions can produce and use."""
    cold = state.cold
    return (
        0 <= state.desired <= _LARGEST
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
