"""Comparison of two artifacts: the files that differ, and the parts of the lineage that do. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any

from slipstream_runtime.build import manifest
from slipstream_runtime.build.manifest import Manifest


def compare(first: Manifest, second: Manifest) -> dict[str, Any]:
    """Return the differences as plain data; None stands for a file or a part that one artifact lacks."""
    return {
        "equal": first.files == second.files,
        "files": [
            {"name": name, "first": _hash(first, name), "second": _hash(second, name)}
            for name in manifest.differing(first, second)
        ],
        "same": sum(second.files.get(name) == entry for name, entry in first.files.items()),
        "lineage": list(_lineage(first, second)),
    }


def _hash(made: Manifest, name: str) -> str | None:
    found = made.files.get(name)
    return found.sha256 if found is not None else None


def _lineage(first: Manifest, second: Manifest) -> Iterator[dict[str, Any]]:
    one, other = (dict(_flat("", made.lineage.model_dump())) for made in (first, second))
    for field in sorted(one.keys() | other.keys()):
        if one.get(field) != other.get(field):
            yield {"field": field, "first": one.get(field), "second": other.get(field)}


def _flat(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the leaves of nested data with their paths, such as recipe.steps.0.quantize.scheme."""
    if isinstance(value, Mapping):
        parts = [(str(key), part) for key, part in value.items()]
    elif isinstance(value, (list, tuple)):
        parts = [(str(number), part) for number, part in enumerate(value)]
    else:
        yield path, value
        return
    for key, part in parts:
        yield from _flat(f"{path}.{key}" if path else key, part)
