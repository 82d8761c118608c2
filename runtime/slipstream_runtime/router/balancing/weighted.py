"""Weighted choice between the revisions of a service or the services of a route."""

from collections.abc import Mapping


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
