"""Structure that a service gives its answers: spec.output in the engine's configuration."""

import json
from typing import Any

import pydantic

from slipstream_runtime.part import Part


class Output(Part):
    """Output of the service; at most one of schema, regex and grammar is set."""

    schema_text: str | None = pydantic.Field(default=None, alias="schema")
    """JSON Schema, as text."""
    regex: str | None = None
    grammar: str | None = None
    stop: tuple[str, ...] = ()
    enforce: bool = False

    @pydantic.model_validator(mode="after")
    def _at_most_one(self) -> "Output":
        if sum(part is not None for part in (self.schema_text, self.regex, self.grammar)) > 1:
            raise ValueError("at most one of schema, regex and grammar is possible")
        return self

    @property
    def structure(self) -> dict[str, Any] | None:
        """Return the value of vLLM's field structured_outputs; None without a structure."""
        if self.schema_text is not None:
            return {"json": json.loads(self.schema_text)}
        if self.regex is not None:
            return {"regex": self.regex}
        if self.grammar is not None:
            return {"grammar": self.grammar}
        return None
