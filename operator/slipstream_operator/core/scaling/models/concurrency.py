"""Sizing by requests in flight, for engines whose step time is unknown: encoders, and engines without a token yet.

The capacity of a replica is learned from the ratio of measured latency to its target.
"""

import math
from typing import Final

_RATE: Final = 0.3
"""Share of the way to a new estimate that one observation moves the capacity, every 30 s."""
_HEADROOM: Final = 0.9
"""Share of the capacity that is planned for."""


def learn(capacity: float | None, *, per_replica: float, pressure: float) -> float | None:
    """Return the capacity of a replica, in requests in flight, after one observation.

    Latency grows about in proportion to requests in flight, so `per_replica / pressure` would just meet the target.
    """
    if per_replica < 1 or not 0 < pressure < math.inf:
        return capacity
    estimate = max(per_replica / pressure, 1.0)
    known = estimate if capacity is None else capacity
    moved = known + _RATE * (estimate - known)
    return max(moved, per_replica) if pressure <= 1 else moved


def replicas(capacity: float | None, *, in_flight: float, headroom: float = _HEADROOM) -> int:
    """Return the replicas for these requests; 0 before anything was learned."""
    return 0 if capacity is None else math.ceil(in_flight / (capacity * headroom))
