"""Base class of all models, and helpers that attach CEL rules to them.

Formatted text is checked twice: by CEL in the API server, and here for files and for objects that were stored before
a rule existed.
"""

import re
from decimal import Decimal
from typing import Annotated, Any, Final

import pydantic
from pydantic import Field

from slipstream_operator.api import units


def camel(name: str) -> str:
    """Return `maxLength` for `max_length`. pydantic's own generator would turn `e2e` into `e2E`."""
    first, *others = name.split("_")
    return first + "".join(part.capitalize() for part in others)


class ApiModel(pydantic.BaseModel):
    """Frozen model with camelCase keys. Unknown keys are ignored because a newer CRD may have them."""

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
    """Return one CEL rule as an entry of x-kubernetes-validations."""
    entry = {"rule": expression}
    if message is not None:
        entry["message"] = message
    if message_expression is not None:
        entry["messageExpression"] = message_expression
    if field_path is not None:
        entry["fieldPath"] = field_path
    return entry


def rules(*entries: dict[str, str]) -> dict[str, Any]:
    """Return the `json_schema_extra` that adds the rules to the generated schema."""
    return {"x-kubernetes-validations": list(entries)}


def list_map(*keys: str) -> dict[str, Any]:
    """Return the `json_schema_extra` of a list whose items are identified by these keys."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}


def _duration(text: str) -> str:
    if re.fullmatch(units.DURATION_PATTERN, text) is None:
        raise ValueError(f'"{text}" is not a duration. Use a value such as 500ms, 2s or 1h30m.')
    if units.seconds(text) <= 0:
        raise ValueError(f'"{text}" must be more than zero.')
    return text


def _fine_duration(text: str) -> str:
    if re.fullmatch(units.FINE_DURATION_PATTERN, text) is None:
        raise ValueError(f'"{text}" is not a duration. Use a value such as 7ms, 20us or 60ns.')
    units.seconds(text)
    return text


def _percentage(text: str) -> str:
    units.share(text)
    return text


def _text(given: object) -> object:
    """Return a number as text, since Kubernetes takes both: `cpu: 4` and `cpu: "4"`."""
    if isinstance(given, bool) or not isinstance(given, int | float):
        return given
    whole = isinstance(given, int) or given.is_integer()
    return str(int(given)) if whole else f"{Decimal(str(given)):f}"


def _quantity(text: str) -> str:
    try:
        positive = units.quantity(text) > 0
    except ValueError:
        positive = False
    if not positive:
        raise ValueError(
            f'"{text}" is not a quantity above zero. Use a value such as 500m, 4 or 16Gi.'
        )
    return text


def _money(text: str) -> str:
    units.money(text)
    return text


Duration = Annotated[
    str,
    pydantic.AfterValidator(_duration),
    Field(
        max_length=20,
        json_schema_extra=rules(
            rule(
                f"self.matches('{units.DURATION_PATTERN}')",
                message_expression=(
                    "'\"' + self + '\" is not a duration. Use a value such as 500ms, 2s or 1h30m.'"
                ),
            ),
            rule(
                f"!self.matches('{units.DURATION_PATTERN}') || duration(self) > duration('0s')",
                message_expression="'\"' + self + '\" must be more than zero.'",
            ),
        ),
    ),
]


def bounded(field: str, least: str, most: str) -> dict[str, str]:
    """Return the rule that a duration is within bounds. Another rule refuses text that is not a duration."""
    value = f"self.{field}"
    return rule(
        f"!has({value}) || !{value}.matches('{units.DURATION_PATTERN}') || "
        f"(duration({value}) >= duration('{least}') && duration({value}) <= duration('{most}'))",
        message_expression=(
            f"'\"' + {value} + '\" is out of range. Use a duration from {least} to {most}.'"
        ),
        field_path=f".{field}",
    )


Percentage = Annotated[
    str,
    pydantic.AfterValidator(_percentage),
    Field(
        max_length=8,
        json_schema_extra=rules(
            rule(
                f"self.matches('{units.PERCENTAGE_PATTERN}')",
                message_expression=(
                    "'\"' + self + '\" is not a percentage. Use a value such as 30% or 99.9%.'"
                ),
            )
        ),
    ),
]
FineDuration = Annotated[
    str,
    pydantic.AfterValidator(_fine_duration),
    Field(
        max_length=20,
        json_schema_extra=rules(
            rule(
                f"self.matches('{units.FINE_DURATION_PATTERN}')",
                message_expression=(
                    "'\"' + self + '\" is not a duration. Use a value such as 7ms, 20us or 60ns.'"
                ),
            )
        ),
    ),
]


def _int_or_string(schema: dict[str, Any]) -> None:
    """Make the schema that of a Kubernetes quantity, which is an integer or text."""
    del schema["type"]
    schema["x-kubernetes-int-or-string"] = True
    schema |= rules(
        rule(
            "type(self) == int ? self > 0 : "
            "isQuantity(self) && quantity(self).isGreaterThan(quantity('0'))",
            message_expression=(
                "'\"' + string(self) + '\" is not a quantity above zero. Use a value such as 500m, 4 or 16Gi.'"
            ),
        )
    )


Quantity = Annotated[
    str,
    pydantic.BeforeValidator(_text, json_schema_input_type=str),
    pydantic.AfterValidator(_quantity),
    Field(max_length=20, json_schema_extra=_int_or_string),
]

_LEAST_BYTES: Final = 1 << 10
"""Least bytes of a size. A smaller size lacks its unit, or has the unit m, which is a thousandth of a byte."""


def _size(text: str) -> str:
    if units.quantity(text) < _LEAST_BYTES:
        raise ValueError(f'"{text}" is less than 1Ki. Use a size with its unit, such as 16Gi.')
    return text


def _int_or_size(schema: dict[str, Any]) -> None:
    """Make the schema that of a quantity of bytes."""
    _int_or_string(schema)
    schema["x-kubernetes-validations"] += rules(
        rule(
            f"type(self) == int ? self >= {_LEAST_BYTES} : "
            f"!isQuantity(self) || quantity(self).compareTo(quantity('{_LEAST_BYTES}')) >= 0",
            message_expression=(
                "'\"' + string(self) + '\" is less than 1Ki. Use a size with its unit, such as 16Gi.'"
            ),
        )
    )["x-kubernetes-validations"]


ByteSize = Annotated[
    str,
    pydantic.BeforeValidator(_text, json_schema_input_type=str),
    pydantic.AfterValidator(_quantity),
    pydantic.AfterValidator(_size),
    Field(max_length=20, json_schema_extra=_int_or_size),
]

Money = Annotated[
    str,
    pydantic.AfterValidator(_money),
    Field(
        max_length=20,
        json_schema_extra=rules(
            rule(
                f"self.matches('{units.MONEY_PATTERN}')",
                message_expression=(
                    "'\"' + self + '\" is not an amount of money. Use a value such as \"2.50\", without a currency.'"
                ),
            )
        ),
    ),
]

ShortText = Annotated[str, Field(min_length=1, max_length=253)]
LabelValue = Annotated[str, Field(max_length=63)]
LabelKey = Annotated[str, Field(max_length=317)]
