"""Seconds of all requests of one service, by cause."""

from collections.abc import Sequence


class Totals:
    """Sums of the parts of requests."""

    def __init__(self, causes: int) -> None:
        self.seconds = [0.0] * causes

    def add(self, parts: Sequence[float]) -> None:
        """Add the parts of one request."""
        seconds = self.seconds
        for index, part in enumerate(parts):
            if part:
                seconds[index] += part
