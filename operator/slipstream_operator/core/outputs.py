"""Checks of spec.output, so that the object is refused before an engine fails to start.

The engine checks the rest with its grammar compiler before it loads the model.
"""

import functools
import json
import re
from collections.abc import Iterator
from typing import Any, Final

import jsonschema

from slipstream_operator.api.limits import OutputSpec
from slipstream_operator.errors import PermanentError
from slipstream_operator.names import Reason

DEPTH: Final = 64
"""Maximum nesting of objects and lists, as in vLLM."""
_SHOWN: Final = 80

_TOKEN: Final = re.compile(
    r"\\(?P<escape>.)|(?P<set>\[\^?\]?(?:\\.|[^\]\\])*\])|(?P<group>\(\?(?!:).{0,2})|(?P<possessive>[*+?}]\+)",
    re.DOTALL,
)
"""Constructs that xgrammar may not support, and brackets and escapes that must not be mistaken for them."""
_ESCAPES: Final = {
    **dict.fromkeys("123456789", "back references"),
    **dict.fromkeys("bB", "word boundaries"),
    **dict.fromkeys("AZ", "\\A and \\Z (the whole response is always matched)"),
}
_GROUPS: Final = (
    ("(?=", "lookahead"),
    ("(?!", "lookahead"),
    ("(?<=", "lookbehind"),
    ("(?<!", "lookbehind"),
    ("(?P<", "named groups"),
    ("(?", "flags and special groups"),
)
_KEYWORDS: Final = {
    "number": ("multipleOf",),
    "integer": ("multipleOf",),
    "array": ("uniqueItems", "contains", "minContains", "maxContains"),
}
"""Type -> keywords that xgrammar ignores and vLLM therefore refuses."""


def check(output: OutputSpec) -> None:
    """Raise PermanentError if engines can't enforce this format."""
    if output.schema_text is not None:
        _check("spec.output.schema", output.schema_text, _schema_fault(output.schema_text))
    if output.regex is not None:
        _check("spec.output.regex", output.regex, _regex_fault(output.regex))


def _check(field: str, text: str, fault: str | None) -> None:
    if fault is not None:
        shown = text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
        raise PermanentError(
            Reason.INVALID_SPEC, f"{field}: {json.dumps(shown, ensure_ascii=False)} {fault}"
        )


@functools.lru_cache(maxsize=256)
def _schema_fault(text: str) -> str | None:
    try:
        schema = json.loads(text)
    except RecursionError:
        return _too_deep()
    except ValueError as error:
        return f"is not JSON ({error}). Write a JSON Schema as text."
    if not isinstance(schema, dict) or not schema:
        return 'is empty or not an object. Write a JSON object, such as {"type": "object"}.'
    if _deep(schema):
        return _too_deep()
    try:
        jsonschema.Draft202012Validator.check_schema(schema)
    except jsonschema.SchemaError as error:
        place = "/".join(str(part) for part in error.absolute_path) or "the root"
        return (
            f"is not a JSON Schema (draft 2020-12): {error.message[:200]} at {place}. Correct it."
        )
    for path, node in _nodes(schema):
        if fault := _node_fault(node):
            return f"can't be enforced at {path or 'the root'}: {fault}"
    return None


def _node_fault(node: dict[str, Any]) -> str | None:
    reference = node.get("$ref")
    if isinstance(reference, str) and not reference.startswith("#"):
        return f'$ref "{reference}" is outside the schema. Copy the definition into $defs.'
    if isinstance(options := node.get("allOf"), list) and len(options) > 1:
        return "xgrammar supports only one schema in allOf. Merge the schemas."
    types = node.get("type")
    for kind in types if isinstance(types, list) else [types]:
        for keyword in _KEYWORDS.get(kind, ()) if isinstance(kind, str) else ():
            if keyword in node:
                return f"xgrammar does not support {keyword}. Leave it out, and check it in the client."
    return None


def _nodes(schema: object, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(schema, dict):
        yield path, schema
        children = schema.items()
    elif isinstance(schema, list):
        children = dict(enumerate(schema)).items()
    else:
        return
    for name, child in children:
        yield from _nodes(child, f"{path}/{name}" if path else str(name))


def _deep(schema: object) -> bool:
    level = [schema]
    for _ in range(DEPTH):
        level = [
            child
            for node in level
            for child in (node.values() if isinstance(node, dict) else node)  # type: ignore[attr-defined]
            if isinstance(child, dict | list)
        ]
    return bool(level)


def _too_deep() -> str:
    return f"has more than {DEPTH} levels, which engines refuse. Use $defs to reduce the nesting."


@functools.lru_cache(maxsize=256)
def _regex_fault(text: str) -> str | None:
    try:
        re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        return f"is not a regular expression: {error}. Correct it."
    if "\x00" in text:
        return "contains a NUL character. Leave it out."
    for token in _TOKEN.finditer(text):
        if what := _beyond(token):
            return f"uses {what}, which xgrammar does not support. Write the expression without it."
    return None


def _beyond(token: re.Match[str]) -> str | None:
    if token["escape"]:
        return _ESCAPES.get(token["escape"])
    if token["group"]:
        return next(what for start, what in _GROUPS if token["group"].startswith(start))
    return "possessive repetition" if token["possessive"] else None
