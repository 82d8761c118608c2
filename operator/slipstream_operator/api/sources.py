"""Where weights come from, as users write it."""

from typing import Annotated

from pydantic import Field

from slipstream_operator.api.base import rule, rules

_SOURCE_PATTERN = (
    "^(hf://[A-Za-z0-9._-]+/[A-Za-z0-9._-]+(@[A-Za-z0-9._/-]+)?"
    "|pvc://[a-z0-9.-]+(/[A-Za-z0-9._/-]+)?|file:///[A-Za-z0-9._/-]+)$"
)

ModelUri = Annotated[
    str,
    Field(
        min_length=1,
        max_length=512,
        json_schema_extra=rules(
            rule(
                f"self.matches('{_SOURCE_PATTERN}') && !self.contains('/../') && !self.endsWith('/..')",
                message_expression=(
                    "'\"' + self + '\" is not a model source: write hf://org/name[@revision], "
                    "pvc://claim/path or file:///path'"
                ),
            )
        ),
    ),
]
