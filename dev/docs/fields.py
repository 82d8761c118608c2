"""Field reference of a kind, from its CRD."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

Schema = Mapping[str, Any]


class Row(NamedTuple):
    """One field of the schema."""

    path: str
    type: str
    description: str


def page(crd: Path) -> str:
    """Markdown page of the kind that the CRD file defines."""
    definition = yaml.safe_load(crd.read_text())["spec"]
    (version,) = definition["versions"]
    kind = definition["names"]["kind"]
    schema = version["schema"]["openAPIV3Schema"]["properties"]
    short = ", ".join(definition["names"].get("shortNames", ()))
    lines = [
        f"# {kind}",
        "",
        (
            f"This page lists every field of `{kind}` for the teams that write one. It is generated from the CRD: "
            f"`{definition['group']}/{version['name']}`, short name `{short}`, scope {definition['scope']}."
        ),
    ]
    for part in ("spec", "status"):
        if part not in schema:
            continue
        lines += ["", f"## {part}", ""]
        if part == "spec" and (required := schema[part].get("required")):
            lines += ["Required: " + ", ".join(f"`{name}`" for name in required) + ".", ""]
        for section, rows in _sections(schema[part], part):
            lines += [f"### {section}", "", "| Field | Type | Meaning |", "|---|---|---|"]
            lines += [f"| `{row.path}` | {row.type} | {row.description} |" for row in rows]
            lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _sections(schema: Schema, part: str) -> Iterator[tuple[str, list[Row]]]:
    """Top-level fields without children first, then one section for each of the others."""
    plain: list[Row] = []
    nested: list[tuple[str, list[Row]]] = []
    for name, child in schema.get("properties", {}).items():
        rows = list(_rows(name, child))
        if len(rows) == 1:
            plain += rows
        else:
            nested.append((f"{part}.{name}", rows))
    if plain:
        yield part, plain
    yield from nested


def _rows(path: str, schema: Schema) -> Iterator[Row]:
    yield Row(path, _type(schema), _cell(str(schema.get("description", ""))))
    yield from _children(path, schema)


def _children(path: str, schema: Schema) -> Iterator[Row]:
    for name, child in schema.get("properties", {}).items():
        yield from _rows(f"{path}.{name}", child)
    if isinstance(items := schema.get("items"), Mapping):
        yield from _children(f"{path}[]", items)
    if isinstance(values := schema.get("additionalProperties"), Mapping):
        yield from _children(f"{path}.*", values)


def _type(schema: Schema) -> str:
    if values := schema.get("enum"):
        return " \\| ".join(f"`{value}`" for value in values)
    kind = str(schema.get("type", "integer or string"))
    if kind == "array":
        return f"list of {_type(schema['items'])}"
    if kind == "object" and isinstance(values := schema.get("additionalProperties"), Mapping):
        return f"map to {_type(values)}"
    return kind + _bounds(schema)


def _bounds(schema: Schema) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is None and high is None:
        return ""
    return f" ({'' if low is None else low} to {'' if high is None else high})"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;").replace("{", "&#123;")
