"""The base of all models, and how CEL rules are attached to them."""

from typing import Annotated, Any

import pydantic
from pydantic import Field

from slipstream_operator.api import units


def camel(name: str) -> str:
    """`max_length` -> `maxLength`. pydantic's own would make `e2e` to `e2E`."""
    first, *others = name.split("_")
    return first + "".join(part.capitalize() for part in others)


class Model(pydantic.BaseModel):
    """Frozen, camelCase outside; unknown keys are ignored, since a newer CRD may carry them."""

    model_config = pydantic.ConfigDict(
        frozen=True, extra="ignore", alias_generator=camel, validate_by_name=True
    )


def rule(
    expression: str,
    *,
    message: str | None = None,
    message_expression: str | None = None,
    field_path: str | None = None,
) -> dict[str, str]:
    """One CEL rule as the CRD carries it (x-kubernetes-validations)."""
    entry = {"rule": expression}
    if message is not None:
        entry["message"] = message
    if message_expression is not None:
        entry["messageExpression"] = message_expression
    if field_path is not None:
        entry["fieldPath"] = field_path
    return entry


def rules(*entries: dict[str, str]) -> dict[str, Any]:
    """`json_schema_extra` that carries the rules into the generated schema."""
    return {"x-kubernetes-validations": list(entries)}


def list_map(*keys: str) -> dict[str, Any]:
    """`json_schema_extra` of a list whose items are told apart by these keys."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}


Duration = Annotated[
    str,
    Field(
        max_length=20,
        json_schema_extra=rules(
            rule(
                f"self.matches('{units.DURATION_PATTERN}')",
                message_expression=(
                    "'\"' + self + '\" is not a duration: write for example 500ms, 2s or 1h30m'"
                ),
            ),
            rule(
                f"!self.matches('{units.DURATION_PATTERN}') || duration(self) > duration('0s')",
                message_expression="'\"' + self + '\" must be more than zero'",
            ),
        ),
    ),
]

Percentage = Annotated[
    str,
    Field(
        max_length=8,
        json_schema_extra=rules(
            rule(
                f"self.matches('{units.PERCENTAGE_PATTERN}')",
                message_expression=(
                    "'\"' + self + '\" is not a percentage: write for example 30% or 99.9%'"
                ),
            )
        ),
    ),
]
FineDuration = Annotated[
    str,
    Field(
        max_length=20,
        json_schema_extra=rules(
            rule(
                f"self.matches('{units.FINE_DURATION_PATTERN}')",
                message_expression=(
                    "'\"' + self + '\" is not a duration: write for example 7ms, 20us or 60ns'"
                ),
            )
        ),
    ),
]

Quantity = Annotated[
    str,
    Field(
        max_length=20,
        json_schema_extra=rules(
            rule(
                "isQuantity(self) && quantity(self).isGreaterThan(quantity('0'))",
                message_expression=(
                    "'\"' + self + '\" is not a quantity above zero: write for example 500m, 4 or 16Gi'"
                ),
            )
        ),
    ),
]

Money = Annotated[
    str,
    Field(
        max_length=20,
        json_schema_extra=rules(
            rule(
                f"self.matches('{units.MONEY_PATTERN}')",
                message_expression=(
                    "'\"' + self + '\" is not a sum of money: write for example \"2.50\", without a currency'"
                ),
            )
        ),
    ),
]

ShortText = Annotated[str, Field(min_length=1, max_length=253)]
LabelValue = Annotated[str, Field(max_length=63)]
LabelKey = Annotated[str, Field(max_length=317)]
