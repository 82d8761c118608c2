"""Manifest of an artifact: its lineage, and the size and the hash of each file. Pure.

It holds no time and no name of a machine, so that the same build gives the same bytes.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import pydantic

from slipstream_runtime import contract
from slipstream_runtime.build.recipe import Recipe
from slipstream_runtime.build.workspace import Entry
from slipstream_runtime.errors import UnsuitableError
from slipstream_runtime.part import Part


class Lineage(Part):
    """Everything that an artifact was made from."""

    uri: str
    revision: str | None
    """Commit, or version of a bucket's objects; None if the source has none."""
    sha256: str
    """Hash of the listing of the source's files."""
    recipe: dict[str, Any]
    datasets: dict[str, str] = pydantic.Field(default_factory=dict)
    """Dataset -> hash of its file."""
    versions: dict[str, str] = pydantic.Field(default_factory=dict)


class Manifest(Part):
    """Content of the file `slipstream-build.json`."""

    name: str
    lineage: Lineage
    files: dict[str, Entry]

    def text(self) -> str:
        """Return the file."""
        content = self.model_dump(mode="json", by_alias=True)
        return json.dumps(content, indent=2, sort_keys=True) + "\n"


def parse(content: str | bytes, *, place: str) -> Manifest:
    """Read a manifest; UnsuitableError if it is not one."""
    try:
        return Manifest.model_validate_json(content)
    except ValueError as error:
        raise UnsuitableError(
            f"{place}: {contract.BUILD_MANIFEST} is not the manifest of a build. Use another place."
        ) from error


def recipe(given: Recipe) -> dict[str, Any]:
    """Return the recipe without its places and the identity of one run, which don't decide the content."""
    plain = given.model_dump(
        mode="json",
        by_alias=True,
        exclude_none=True,
        exclude={"name", "uid", "source", "output", "memory", "work", "cache"},
    )
    found = _without_folders(plain)
    assert isinstance(found, dict)
    return found


def dataset_name(uri: str) -> str:
    """Return the URI of a dataset, or the name of its file without the folder in which this machine has it."""
    return uri if "://" in uri else uri.rpartition("/")[2]


def _without_folders(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: {**part, "uri": dataset_name(part["uri"])}
            if key == "dataset" and "uri" in part
            else _without_folders(part)
            for key, part in value.items()
            if key != "tasksFolder"
        }
    if isinstance(value, list):
        return [_without_folders(part) for part in value]
    return value


def differing(one: Manifest, other: Manifest) -> list[str]:
    """Return the names of files that only one artifact has, or that differ."""
    names = one.files.keys() | other.files.keys()
    return sorted(name for name in names if one.files.get(name) != other.files.get(name))


def digest(made: Manifest) -> str:
    """Return the hash of the manifest's file."""
    return hashlib.sha256(made.text().encode()).hexdigest()


def explain(names: Sequence[str]) -> str:
    """Return the names of differing files as text."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{', '.join(names[:3])}{more}"
