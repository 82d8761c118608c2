"""Weighted choice between the revisions of a service or the services of a route."""

import math
from collections.abc import Callable, Mapping
from typing import Final

_STEP: Final = (math.sqrt(5) - 1) / 2
"""Golden section. Its multiples fill the range from 0 to 1 more evenly than any others (Knuth, TAOCP 3, 6.4)."""


def draw(weights: Mapping[str, int], at: float) -> str | None:
    """Return the name that the random number `at`, from 0 to below 1, selects; None if all weights are 0."""
    point = at * sum(weights.values())
    drawn = None
    for name, weight in weights.items():
        if weight:
            drawn = name
            if point < weight:
                break
            point -= weight
    return drawn


class Positions:
    """Numbers from 0 to below 1 that are spread evenly, so that any few of them follow the weights."""

    def __init__(self, chance: Callable[[], float]) -> None:
        self._chance = chance
        self._last: float | None = None

    def next(self) -> float:
        """Return the next number. The first one is random."""
        last = self._last
        self._last = self._chance() if last is None else (last + _STEP) % 1.0
        return self._last
