"""Why an engine cannot go on, in one line that the operator shows to the user."""

from typing import Final

import pydantic

LONGEST_LINE: Final = 1000
"""Characters of a reason; the operator shows as many in a condition."""


class EngineError(Exception):
    """The engine ends; a restart may heal it (a volume that appears, a hub that answers again)."""

    exit_code = 1

    @property
    def reason(self) -> str:
        """One line, short enough for a condition's message."""
        return one_line(str(self))


class UnsuitableError(EngineError):
    """The configuration asks for something that this checkpoint or machine cannot do: restarts do not help."""

    exit_code = 2


def describe(error: BaseException) -> str:
    """One line about an exception of a library."""
    if isinstance(error, pydantic.ValidationError):
        found = error.errors(include_url=False, include_input=False)
        return one_line("; ".join(item["msg"] for item in found))
    return one_line(f"{type(error).__name__}: {error}")


def one_line(text: str, *, limit: int = LONGEST_LINE) -> str:
    """The text with all white space runs as one space, cut at the limit."""
    flat = " ".join(text.split())
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"
