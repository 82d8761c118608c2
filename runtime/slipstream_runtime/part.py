"""The base of what an engine's configuration file is made of."""

from typing import Annotated

import pydantic
from pydantic.alias_generators import to_camel

Positive = Annotated[int, pydantic.Field(ge=1)]


class Part(pydantic.BaseModel):
    """Base of all parts: frozen, camelCase in the file, unknown keys refused."""

    model_config = pydantic.ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, validate_by_name=True
    )
