"""Fields of pydantic models and the values that cases give them, for a test that none is forgotten."""

import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import pydantic
from pydantic.fields import FieldInfo


def leaves(
    model: type[pydantic.BaseModel], prefix: str = "", *, by_alias: bool = True
) -> Iterator[tuple[str, FieldInfo]]:
    """Yield the path of each field that holds no model."""
    for name, field in model.model_fields.items():
        path = f"{prefix}{(by_alias and field.alias) or name}"
        nested = list(_models(field.annotation))
        for each in nested:
            yield from leaves(each, f"{path}.", by_alias=by_alias)
        if not nested:
            yield path, field


def _models(annotation: Any) -> Iterator[type[pydantic.BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        yield annotation
    elif typing.get_origin(annotation) in (types.UnionType, typing.Union, typing.Annotated, list):
        for argument in typing.get_args(annotation):
            yield from _models(argument)


def words(field: FieldInfo) -> set[str]:
    """Return the words that a field can be set to, without its default; empty if it takes no words."""
    return _words(field.annotation) - {field.default}


def _words(annotation: Any) -> set[str]:
    if typing.get_origin(annotation) is Literal:
        return {each for each in typing.get_args(annotation) if isinstance(each, str)}
    return {word for each in typing.get_args(annotation) for word in _words(each)}


def given(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the path and the value of each leaf of an object; items of a list have the list's path."""
    if isinstance(value, Mapping) and value:
        for key, part in value.items():
            yield from given(part, f"{prefix}.{key}" if prefix else key)
    elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        for item in value:
            yield from given(item, prefix)
    else:
        yield prefix, value
