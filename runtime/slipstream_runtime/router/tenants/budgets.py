"""Token budget of a tenant: reserved before a request runs, settled with its usage.

A token bucket that holds a minute's tokens. Time is an argument, in seconds.
"""

import math


class Bucket:
    """Token bucket of one tenant of one service."""

    def __init__(self, per_minute: int, *, now: float) -> None:
        self.per_minute = per_minute
        self._level = float(per_minute)
        self._at = now

    def level(self, now: float) -> float:
        """Return the tokens that are left; negative if answers used more than was reserved."""
        self._level = min(self.per_minute, self._level + (now - self._at) * self.per_minute / 60)
        self._at = now
        return self._level

    def reserve(self, tokens: int, *, now: float) -> float:
        """Reserve tokens and return 0, or return the seconds to wait for them; infinite if they never suffice."""
        if tokens > self.per_minute:
            return math.inf
        lacking = tokens - self.level(now)
        if lacking <= 0:
            self._level -= tokens
            return 0.0
        return lacking * 60 / self.per_minute

    def settle(self, reserved: int, *, used: int, now: float) -> None:
        """Return unused tokens to the bucket, or take those used beyond the reservation."""
        self._level = min(self.per_minute, self.level(now) + reserved - used)
