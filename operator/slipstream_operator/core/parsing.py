"""Parsing of plain data into the models of `api`, with errors that users can act on."""

from typing import TypeVar

import pydantic

from slipstream_operator.core.observed import Manifest
from slipstream_operator.errors import PermanentError
from slipstream_operator.names import Reason

M = TypeVar("M", bound=pydantic.BaseModel)


def parse(model: type[M], data: Manifest, *, what: str) -> M:
    """The data as a model; PermanentError names each field that is wrong.

    The CRD's own validation has refused such objects already, unless they were stored before a rule existed.
    """
    try:
        return model.model_validate(data)
    except pydantic.ValidationError as error:
        problems = (
            f"{'.'.join((what, *map(str, problem['loc'])))}: {problem['msg']}"
            for problem in error.errors(include_url=False)
        )
        raise PermanentError(Reason.INVALID_SPEC, "; ".join(problems)) from error
