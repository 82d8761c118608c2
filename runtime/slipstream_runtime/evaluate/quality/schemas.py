"""JSON schemas of items: what makes one unusable, and whether an answer follows one. Pure.

A schema is read as data. It fetches nothing, and a pattern that takes too long is an error of the dataset.
"""

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

import jsonschema
import referencing
import referencing.exceptions
import referencing.jsonschema
import regex

from slipstream_runtime.errors import UnsuitableError

_PATTERN_SECONDS: Final = 1.0
"""Seconds in which a pattern must find or refuse a text: a usual one takes less than a millisecond."""
_REFERENCES: Final = ("$ref", "$dynamicRef", "$recursiveRef")

Schema = Mapping[str, Any]


def fault(schema: Schema) -> str | None:
    """Return why no answer can be checked against the schema; None if it can be."""
    kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    try:
        kind.check_schema(schema)
    except jsonschema.SchemaError as error:
        return f"schema is no JSON schema: {error.message}"
    except RecursionError:
        return "schema is nested too deeply"
    resource = _resource(schema)
    resolver = referencing.Registry().with_resource("", resource).resolver_with_root(resource)
    for reference in _references(schema):
        try:
            resolver.lookup(reference)
        except (referencing.exceptions.Unresolvable, ValueError):
            return f'schema refers to "{reference}", which is not a part of it. Write that part into $defs'
    return None


def follows(text: str, schema: Schema) -> bool:
    """Whether the text is JSON that follows the schema; UnsuitableError if a pattern of the schema takes too long."""
    try:
        answer = json.loads(text, parse_constant=_refuse)
        _validator(json.dumps(schema, sort_keys=True)).validate(answer)
    except (ValueError, RecursionError, jsonschema.ValidationError):
        return False
    except referencing.exceptions.Unresolvable as error:
        raise UnsuitableError(
            f'schema: refers to "{error.ref}", which is not a part of it.'
        ) from None
    return True


def _refuse(constant: str) -> None:
    """Refuse NaN and Infinity, which Python reads and JSON does not have."""
    raise ValueError(constant)


@lru_cache(maxsize=256)
def _validator(text: str) -> Any:
    schema = json.loads(text)
    kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    bounded = jsonschema.validators.extend(
        kind,
        {
            "pattern": _pattern,
            "patternProperties": _pattern_properties,
            "additionalProperties": _additional_properties,
        },
    )
    # NB: a registry without `retrieve` fetches nothing.
    return bounded(schema, registry=referencing.Registry())


def _resource(schema: Schema) -> Any:
    return referencing.Resource.from_contents(
        schema, default_specification=referencing.jsonschema.DRAFT202012
    )


def _references(part: object) -> Iterator[str]:
    if isinstance(part, Mapping):
        for name, value in part.items():
            if name in _REFERENCES and isinstance(value, str):
                yield value
            else:
                yield from _references(value)
    elif isinstance(part, list):
        for value in part:
            yield from _references(value)


def _finds(pattern: str, text: str) -> bool:
    try:
        return regex.search(pattern, text, timeout=_PATTERN_SECONDS) is not None
    except TimeoutError:
        raise UnsuitableError(
            f'schema: the pattern "{pattern}" takes longer than {_PATTERN_SECONDS:g} s for an answer of '
            f"{len(text)} characters. Write it without repetitions inside of repetitions."
        ) from None
    except regex.error as error:
        raise UnsuitableError(f'schema: the pattern "{pattern}" is wrong: {error}.') from None


def _pattern(validator: Any, pattern: str, instance: Any, schema: Schema) -> Iterator[Any]:
    if validator.is_type(instance, "string") and not _finds(pattern, instance):
        yield jsonschema.ValidationError(f"does not match {pattern}")


def _pattern_properties(
    validator: Any, patterns: Mapping[str, Any], instance: Any, schema: Schema
) -> Iterator[Any]:
    if not validator.is_type(instance, "object"):
        return
    for pattern, part in patterns.items():
        for name, value in instance.items():
            if _finds(pattern, name):
                yield from validator.descend(value, part, path=name, schema_path=pattern)


def _additional_properties(
    validator: Any, part: Any, instance: Any, schema: Schema
) -> Iterator[Any]:
    if not validator.is_type(instance, "object"):
        return
    patterns = schema.get("patternProperties", {})
    for name in instance.keys() - schema.get("properties", {}).keys():
        if any(_finds(pattern, name) for pattern in patterns):
            continue
        if part is False:
            yield jsonschema.ValidationError(f"{name} is not allowed")
        elif part is not True:
            yield from validator.descend(instance[name], part, path=name)
