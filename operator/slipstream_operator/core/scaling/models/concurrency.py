"""Sizing by requests in flight, for engines whose step time is not known: they make no tokens, or made none yet.

What one replica carries inside its objectives is learned from how far measured latency is from its target.
"""

import math
from typing import Final

_RATE: Final = 0.3
_HEADROOM: Final = 0.9


def learn(capacity: float | None, *, per_replica: float, pressure: float) -> float | None:
    """Latency grows about as requests in flight do, so `per_replica / pressure` would just meet the target."""
    if per_replica < 1 or not 0 < pressure < math.inf:
        return capacity
    estimate = max(per_replica / pressure, 1.0)
    known = estimate if capacity is None else capacity
    moved = known + _RATE * (estimate - known)
    return max(moved, per_replica) if pressure <= 1 else moved


def replicas(capacity: float | None, *, in_flight: float, headroom: float = _HEADROOM) -> int:
    """The count that carries these requests; 0 while nothing was learned."""
    return 0 if capacity is None else math.ceil(in_flight / (capacity * headroom))
