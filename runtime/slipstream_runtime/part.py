"""Base of the models that an engine's configuration file is validated by."""

from typing import Annotated

import pydantic
from pydantic.alias_generators import to_camel

Positive = Annotated[int, pydantic.Field(ge=1)]


class Part(pydantic.BaseModel):
    """Base of every part of the file: frozen, camelCase keys, unknown keys refused."""

    model_config = pydantic.ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, validate_by_name=True
    )
