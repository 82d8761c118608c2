"""A weighted choice, between the revisions of a service or the services of a route. Pure."""

from collections.abc import Mapping


def draw(weights: Mapping[str, int], at: float) -> str | None:
    """The name at the point `at`, from 0 up to 1, of the names laid end to end; None if all weigh 0."""
    point = at * sum(weights.values())
    drawn = None
    for name, weight in weights.items():
        if weight:
            drawn = name
            if point < weight:
                break
            point -= weight
    return drawn
