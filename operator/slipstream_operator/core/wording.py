"""Wording that several messages share."""


def agreeing(count: int, one: str, several: str) -> str:
    """Return the count with the words that agree with it."""
    return f"{count} {one if count == 1 else several}"


def counted(count: float, noun: str) -> str:
    """Return the count without decimals, and its noun."""
    return agreeing(round(count), noun, f"{noun}s")


def replicas(count: int) -> str:
    """Return the count with its noun."""
    return counted(count, "replica")
