"""Wording that several messages share."""

from collections.abc import Sequence
from typing import Final

_KIBI: Final = 1024


def agreeing(count: int, one: str, several: str) -> str:
    """Return the count with the words that agree with it."""
    return f"{count} {one if count == 1 else several}"


def counted(count: float, noun: str) -> str:
    """Return the count without decimals, and its noun."""
    return agreeing(round(count), noun, f"{noun}s")


def size(number: float) -> str:
    """Return bytes in the largest unit that keeps them above 1."""
    for unit in ("B", "KiB", "MiB"):
        if number < _KIBI:
            return f"{number:.0f} B" if unit == "B" else f"{number:.1f} {unit}"
        number /= _KIBI
    return f"{number:.1f} GiB"


def replicas(count: int) -> str:
    """Return the count with its noun."""
    return counted(count, "replica")


def held(conflicts: Sequence[object], *, alternative: str = "") -> str:
    """Return the message about names that objects of other owners have; `conflicts` name them."""
    named = " and ".join(str(ref) for ref in conflicts)
    if len(conflicts) == 1:
        return f"{named} already exists and belongs to another owner. Delete or rename it{alternative}."
    return f"{named} already exist and belong to other owners. Delete or rename them{alternative}."


def sentence(text: str) -> str:
    """Return the text with a capital letter at its beginning and one period at its end."""
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."
