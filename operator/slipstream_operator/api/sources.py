"""URIs of model sources."""

from typing import Annotated

from pydantic import Field

from slipstream_operator.api.base import rule, rules

_SOURCE_PATTERN = (
    "^(hf://[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)?(@[A-Za-z0-9._/-]+)?"
    "|pvc://[a-z0-9.-]+(/[A-Za-z0-9._/-]+)?|file:///[A-Za-z0-9._/-]+"
    "|s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9._/=+-]*)?"
    "|gs://[a-z0-9][a-z0-9._-]{1,220}[a-z0-9](/[A-Za-z0-9._/=+-]*)?"
    "|oci://[A-Za-z0-9.-]+(:[0-9]{1,5})?/[a-z0-9._/-]+(:[A-Za-z0-9._-]{1,128})?(@sha256:[0-9a-f]{64})?)$"
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
                    "'\"' + self + '\" is not a model source. Use hf://org/name[@revision], pvc://claim/path, "
                    "s3://bucket/prefix, gs://bucket/prefix, oci://registry/image:tag or file:///path.'"
                ),
            )
        ),
    ),
]
