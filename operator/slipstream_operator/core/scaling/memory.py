"""The scaling state as text, for the service's state ConfigMap."""

import dataclasses
import json
import math

from slipstream_operator.core.scaling.policy import State


def dump(state: State) -> str:
    """Sorted and rounded: a state that did not change gives the same text. Recent needs are not kept: a restart waits
    for a whole window of new ones before it scales down."""
    data = dataclasses.asdict(state)
    del data["needs"]
    for name in ("capacity", "tokens_capacity"):
        if data[name] is not None:
            data[name] = float(f"{data[name]:.3g}")
    data["since"] = round(state.since, 1)
    return json.dumps(data, sort_keys=True)


def load(text: str) -> State | None:
    """None if the text is not a state, as after an edit by hand: then the operator starts from what it sees."""
    try:
        state = State(**json.loads(text))
        return dataclasses.replace(
            state,
            desired=int(state.desired),
            since=_finite(state.since),
            reason=str(state.reason),
            capacity=None if state.capacity is None else max(_finite(state.capacity), 1.0),
            tokens_capacity=None
            if state.tokens_capacity is None
            else _finite(state.tokens_capacity),
            needs=(),
        )
    except (ValueError, TypeError, OverflowError):
        return None


def _finite(value: float) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{number} is not finite")
    return number
