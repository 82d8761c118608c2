"""URIs of model sources."""

from typing import Annotated, Final

from pydantic import Field

from slipstream_operator.api.base import rule, rules

SOURCE_PATTERN: Final = (
    "^(hf://[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)?(@[A-Za-z0-9._/-]+)?"
    "|pvc://[a-z0-9.-]+(/[A-Za-z0-9._/-]+)?|file:///[A-Za-z0-9._/-]+"
    "|s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9._/=+-]*)?"
    "|gs://[a-z0-9][a-z0-9._-]{1,220}[a-z0-9](/[A-Za-z0-9._/=+-]*)?"
    "|oci://[A-Za-z0-9.-]+(:[0-9]{1,5})?/[a-z0-9._/-]+(:[A-Za-z0-9._-]{1,128})?(@sha256:[0-9a-f]{64})?)$"
)

BUILD_PATTERN: Final = "^build://([a-z0-9]([a-z0-9.-]*[a-z0-9])?)$"
"""A ModelBuild of the same namespace; the first group is its name."""
_WITH_A_NAMESPACE = "^build://[^/]+/.+$"
_FORMS = (
    "hf://org/name[@revision], pvc://claim/path, s3://bucket/prefix, gs://bucket/prefix, "
    "oci://registry/image:tag or file:///path"
)
_WITHOUT_PARENTS = "!self.contains('/../') && !self.endsWith('/..')"
OTHER_NAMESPACE: Final = (
    "is in another namespace, and the claim and the Secrets of a build belong to its namespace alone. Publish the "
    "build to s3:// or oci://, and use that uri."
)
"""Reason why no build of another namespace can be used, and the remedy."""

ModelUri = Annotated[
    str,
    Field(
        min_length=1,
        max_length=512,
        json_schema_extra=rules(
            rule(
                f"self.matches('{SOURCE_PATTERN}') && {_WITHOUT_PARENTS}",
                message_expression=f"'\"' + self + '\" is not a model source. Use {_FORMS}.'",
            )
        ),
    ),
]

ServedUri = Annotated[
    str,
    Field(
        min_length=1,
        max_length=512,
        json_schema_extra=rules(
            rule(
                f"self.matches('{SOURCE_PATTERN}') && {_WITHOUT_PARENTS} || self.matches('{BUILD_PATTERN}') || "
                f"self.matches('{_WITH_A_NAMESPACE}')",
                message_expression=f"'\"' + self + '\" is not a model source. Use {_FORMS}, or build://name for a "
                "ModelBuild of the same namespace.'",
            ),
            rule(
                f"!self.matches('{_WITH_A_NAMESPACE}')",
                message_expression=f"'\"' + self + '\" {OTHER_NAMESPACE}'",
            ),
        ),
    ),
]
"""Source of a service: one of ModelUri, or a ModelBuild of the namespace."""
