"""Datasets: lines of JSON from a ConfigMap, a claim or a URI, or a task of lm-evaluation-harness."""

from typing import Annotated

import pydantic
from pydantic import Field

from slipstream_operator.api.base import ApiModel, rule, rules
from slipstream_operator.api.model import ConfigMapKey
from slipstream_runtime import contract

_URI_PATTERN = (
    "^(hf://datasets/[A-Za-z0-9._-]+/[A-Za-z0-9._-]+(@[A-Za-z0-9._-]+)?/[A-Za-z0-9._/-]+"
    "|s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/[A-Za-z0-9._/=+-]+"
    "|gs://[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]/[A-Za-z0-9._/=+-]+)$"
)

FieldName = Annotated[str, Field(min_length=1, max_length=64)]


class ClaimFile(ApiModel):
    """File of a PersistentVolumeClaim in the same namespace."""

    model_config = pydantic.ConfigDict(
        json_schema_extra=rules(
            rule(
                "self.path.matches('^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*$') && "
                "!self.path.split('/').exists(part, part == '..')",
                message_expression=(
                    "'\"' + self.path + '\" is not a path in the claim. Use a relative path such as data/items.jsonl.'"
                ),
                field_path=".path",
            )
        )
    )
    name: Annotated[str, Field(min_length=1, max_length=253)] = Field(
        description="Name of the claim."
    )
    path: Annotated[str, Field(min_length=1, max_length=256)] = Field(
        description="Path of the file in the claim, such as data/items.jsonl."
    )


class DatasetSpec(ApiModel):
    """Items by a file of JSON lines, or by a task of lm-evaluation-harness."""

    model_config = pydantic.ConfigDict(
        json_schema_extra=rules(
            rule(
                "[has(self.configMap), has(self.claim), has(self.uri), has(self.task)].filter(one, one).size() == 1",
                message="needs exactly one of configMap, claim, uri and task. Set one and leave out the others.",
            ),
            rule(
                f"!has(self.uri) || (self.uri.matches('{_URI_PATTERN}') && !self.uri.contains('/../'))",
                message_expression=(
                    "'\"' + self.uri + '\" is not a dataset. Use hf://datasets/org/name[@revision]/file, "
                    "s3://bucket/file or gs://bucket/file.'"
                ),
                field_path=".uri",
            ),
        )
    )

    @pydantic.model_validator(mode="after")
    def _exactly_one(self) -> "DatasetSpec":
        given = [
            one for one in (self.config_map, self.claim, self.uri, self.task) if one is not None
        ]
        if len(given) != 1:
            raise ValueError("needs exactly one of configMap, claim, uri and task.")
        if unknown := sorted((self.fields or {}).keys() - set(contract.ITEM_FIELDS)):
            raise ValueError(
                f'fields: "{unknown[0]}" is not a field of an item. Use {", ".join(contract.ITEM_FIELDS)}.'
            )
        return self

    config_map: ConfigMapKey | None = Field(
        default=None, description="Entry of a ConfigMap in the same namespace."
    )
    claim: ClaimFile | None = Field(
        default=None, description="File of a claim in the same namespace."
    )
    uri: Annotated[str, Field(min_length=1, max_length=512)] | None = Field(
        default=None,
        description="File as hf://datasets/org/name[@revision]/file, s3://bucket/file or gs://bucket/file.",
    )
    task: Annotated[str, Field(pattern="^[A-Za-z0-9_.-]+$", max_length=128)] | None = Field(
        default=None, description="Task of lm-evaluation-harness, such as gsm8k, for quality only."
    )
    fields: Annotated[dict[FieldName, FieldName], Field(max_length=16)] | None = Field(
        default=None,
        description="Names of the dataset's fields where they differ, such as reference: answer.",
    )
