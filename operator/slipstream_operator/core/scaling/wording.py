"""Wording that several reasons of decisions share."""


def agreeing(count: int, one: str, several: str) -> str:
    """Return the count with the words that agree with it."""
    return f"{count} {one if count == 1 else several}"


def replicas(count: int) -> str:
    """Return the count with its noun."""
    return agreeing(count, "replica", "replicas")
