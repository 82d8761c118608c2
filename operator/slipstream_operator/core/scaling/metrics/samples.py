"""Samples of Prometheus, checked one by one: pods of any tenant can export any number and any label.

A sample with an implausible value or with unreadable labels is dropped. It never affects other samples.
"""

import math
import re
from collections.abc import Mapping
from typing import Final

import orjson

from slipstream_operator.core.scaling.metrics import queries

LEAST: Final = 1e-12
"""Smallest plausible value besides 0: rates of a day with one request are around 1e-5."""
MOST: Final = 1e15
"""Largest plausible value of a query that `_MOST` does not list, such as tokens of a day."""
_MOST_SECONDS: Final = 1e6
"""Largest plausible bound of a latency bucket, in seconds."""
_REQUESTS: Final = 1e7
"""Requests, or requests per second: a hundred times more than the largest deployments serve."""
_TOKENS: Final = 1e9
"""Tokens per second of one pod."""
_FULL: Final = 1.01
"""Largest share of the KV cache in use, with room for rounding."""
_MOST: Final[Mapping[str, float]] = {
    queries.RUNNING: _REQUESTS,
    queries.WAITING: _REQUESTS,
    queries.KV_USAGE: _FULL,
    queries.RUNNING_MEAN: _REQUESTS,
    queries.WAITING_MEAN: _REQUESTS,
    queries.KV_MEAN: _FULL,
    queries.OUTPUT: _TOKENS,
    queries.PROMPT: _TOKENS,
    queries.STEPS: _REQUESTS,
    queries.ITL_SUM: _TOKENS,
    queries.ITL_COUNT: _TOKENS,
    queries.STARTED: _REQUESTS,
    queries.FINISHED: _REQUESTS,
    queries.REJECTED: _REQUESTS,
    queries.PREEMPTED: _REQUESTS,
    queries.ARRIVALS: _REQUESTS,
    queries.SURGE: _REQUESTS,
    queries.CANCELLED: _REQUESTS,
    queries.HELD: _REQUESTS,
    queries.GAIN: 1e3,
    queries.BATCH_TOKENS: 1e3,
    queries.BATCH_GAIN: 1e3,
    queries.SEQUENCES: _REQUESTS,
}
_BOUND: Final = re.compile(rb"\+Inf|[0-9][0-9.e+-]{0,23}")
"""Bound of a bucket as clients of Prometheus write it. It becomes a part of a query, so it is short."""


def largest(query: str) -> float:
    """Return the largest plausible value of a query's samples."""
    return _MOST.get(query, MOST)


def is_plausible(value: float, *, most: float = MOST) -> bool:
    """Whether the value is 0 or in the plausible range. NaN is not: it fails every comparison."""
    return LEAST <= value <= most or value == 0


def labels(text: bytes) -> Mapping[str, str] | None:
    """Return the labels of a sample; None if they can't be read."""
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        return None
    return found


def bound(text: bytes) -> float:
    """Return the upper bound of a bucket in seconds; NaN if the label is no plausible bound."""
    if _BOUND.fullmatch(text) is None:
        return math.nan
    try:
        found = float(text)
    except ValueError:
        return math.nan
    return found if LEAST <= found <= _MOST_SECONDS or found in (0, math.inf) else math.nan
