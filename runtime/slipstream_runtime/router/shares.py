"""A choice by weight, with the chance given from outside."""

from collections.abc import Mapping
from typing import TypeVar

Choice = TypeVar("Choice")


def choose(weights: Mapping[Choice, int], *, chance: float) -> Choice | None:
    """The choice on which a point between 0 and 1 falls; None if no weight is above zero."""
    point = chance * sum(weights.values())
    for choice, weight in weights.items():
        point -= weight
        if point < 0:
            return choice
    return None
