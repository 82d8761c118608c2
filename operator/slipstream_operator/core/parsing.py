"""Parsing of plain data into the models of `api`, with errors that users can act on."""

import difflib
import json
from collections.abc import Iterator
from typing import Any, Final, TypeVar

import pydantic

from slipstream_operator.core.observed import Manifest
from slipstream_operator.errors import PermanentError
from slipstream_operator.names import Reason

_SHOULD: Final = "Input should be "
"""Beginning of pydantic's messages about wrong values."""
_LONGEST: Final = 80
"""Characters of a wrong value that a message shows."""
M = TypeVar("M", bound=pydantic.BaseModel)


def parse(model: type[M], data: Manifest, *, what: str) -> M:
    """Return the data as a model. PermanentError names each invalid field.

    The CRD refuses such objects as well, unless they were stored before a rule existed.
    """
    try:
        return model.model_validate(data)
    except pydantic.ValidationError as error:
        problems = (
            f"{'.'.join((what, *map(str, problem['loc'])))}: {_text(problem)}"
            for problem in error.errors(include_url=False)
        )
        raise PermanentError(Reason.INVALID_SPEC, " ".join(problems)) from error


def _text(problem: Any) -> str:
    """Return the problem with a value, as a sentence."""
    given = problem.get("input")
    if problem["type"] == "string_type" and isinstance(given, bool | int | float):
        shown = json.dumps(given)
        return f'{shown} can\'t work because it must be text. Write "{shown}".'
    message = str(problem["msg"]).removeprefix("Value error, ")
    if message.startswith(_SHOULD) and isinstance(given, str | int | float):
        shown = json.dumps(given, ensure_ascii=False)[:_LONGEST]
        message = f"{shown} can't work because it should be {message.removeprefix(_SHOULD)}"
    return message if message.endswith((".", "?")) else f"{message}."


def unknown(parsed: object, given: object, *, what: str) -> Iterator[str]:
    """Yield a problem for each field of the data that the model does not have, such as a misspelled field."""
    if isinstance(parsed, pydantic.BaseModel) and isinstance(given, dict):
        fields = {field.alias or name: name for name, field in type(parsed).model_fields.items()}
        for key, value in given.items():
            if key in fields:
                yield from unknown(getattr(parsed, fields[key]), value, what=f"{what}.{key}")
            else:
                near = difflib.get_close_matches(str(key), fields, n=1)
                yield f"{what}.{key}: no such field. " + (
                    f"Did you mean {near[0]}?" if near else "Leave it out."
                )
    elif isinstance(parsed, dict) and isinstance(given, dict):
        for key, value in given.items():
            yield from unknown(parsed.get(key), value, what=f"{what}.{key}")
    elif isinstance(parsed, list) and isinstance(given, list):
        for index, (left, right) in enumerate(zip(parsed, given, strict=False)):
            yield from unknown(left, right, what=f"{what}.{index}")
