"""Errors that end a process of the data plane, each with one line for the user."""

from typing import Final

import pydantic

LONGEST_LINE: Final = 1000
"""Characters of a reason; the operator shows that many in a condition."""


class EngineError(Exception):
    """Error that ends the engine; a restart may help, such as after a volume appears or a hub answers again."""

    exit_code = 1

    @property
    def reason(self) -> str:
        """Reason in one line, short enough for the message of a condition."""
        return one_line(str(self))


class UnsuitableError(EngineError):
    """Configuration that this checkpoint or machine can't run; restarts don't help."""

    exit_code = 2


def describe(error: BaseException) -> str:
    """Return one line that describes an exception of a library."""
    if isinstance(error, pydantic.ValidationError):
        found = error.errors(include_url=False, include_input=False)
        return one_line("; ".join(item["msg"] for item in found))
    return one_line(f"{type(error).__name__}: {error}")


def one_line(text: str, *, limit: int = LONGEST_LINE) -> str:
    """Return the text in one line, cut at `limit` characters."""
    flat = " ".join(text.split())
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"
