"""Base of a scenario's models: durations and shares as users write them; unknown fields are refused."""

import itertools
from collections.abc import Callable
from typing import Annotated, Any

import pydantic
from pydantic import BeforeValidator, WithJsonSchema

from slipstream_operator.api import base, units


class Part(base.ApiModel):
    """Immutable model with camelCase fields in files; an unknown field is an error."""

    model_config = pydantic.ConfigDict(extra="forbid")


def _text(parse: Callable[[str], float], example: str) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        if isinstance(value, str):
            return parse(value)
        if isinstance(value, float) and not isinstance(value, bool):
            return value  # already read: a default or a copy
        raise ValueError(f"a unit is missing: write it as text, for example {example}")

    return read


Seconds = Annotated[
    float,
    BeforeValidator(_text(units.seconds, "30s")),
    WithJsonSchema({"type": "string", "examples": ["500ms", "30s", "1h30m"]}),
]
"""Duration in seconds."""

Share = Annotated[
    float,
    BeforeValidator(_text(units.share, "20%")),
    WithJsonSchema({"type": "string", "pattern": units.PERCENTAGE_PATTERN}),
]
"""Share from 0 to 1, written as a percentage."""


def ordered(points: tuple[tuple[float, Any], ...]) -> tuple[tuple[float, Any], ...]:
    """Return the points; raise ValueError unless their times rise."""
    if not points:
        raise ValueError("at least one point is needed, for example [[0s, 10]]")
    for (earlier, _), (later, _) in itertools.pairwise(points):
        if later <= earlier:
            raise ValueError(
                f"the points must be in order of time: {later:g}s does not come after {earlier:g}s; "
                "for a step, put the second point 1s later"
            )
    return points
