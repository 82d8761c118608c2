"""Tokens of a tenant: set aside before a request runs, settled with what it used.

A bucket that holds a minute's tokens and fills at that rate. Time comes in as an argument, in seconds.
"""

import math


class Bucket:
    """The tokens of one tenant of one service."""

    def __init__(self, per_minute: int, *, now: float) -> None:
        self.per_minute = per_minute
        self._level = float(per_minute)
        self._at = now

    def level(self, now: float) -> float:
        """Tokens that are left; below zero if answers grew beyond what was set aside for them."""
        self._level = min(self.per_minute, self._level + (now - self._at) * self.per_minute / 60)
        self._at = now
        return self._level

    def reserve(self, tokens: int, *, now: float) -> float:
        """Set tokens aside and return 0, or the seconds until there are as many; infinite: never."""
        if tokens > self.per_minute:
            return math.inf
        lacking = tokens - self.level(now)
        if lacking <= 0:
            self._level -= tokens
            return 0.0
        return lacking * 60 / self.per_minute

    def settle(self, reserved: int, *, used: int, now: float) -> None:
        """Put back what was not used, or take what was used beyond it."""
        self._level = min(self.per_minute, self.level(now) + reserved - used)
