"""Interface of a place, and the rules that hold at every place."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from slipstream_runtime.build import manifest
from slipstream_runtime.build.manifest import Manifest
from slipstream_runtime.errors import UnsuitableError

Count = Callable[[int], None]
"""Called with bytes that were written."""


@dataclass(frozen=True, slots=True)
class Published:
    """Address of an artifact."""

    uri: str
    digest: str | None = None
    """Digest of an image."""


class Place(Protocol):
    """Place of an artifact. Its methods raise EngineError or UnsuitableError with the remedy."""

    @property
    def uri(self) -> str:
        """URI of the output."""

    def existing(self) -> Manifest | None:
        """Return the manifest of the artifact that is there.

        UnsuitableError if the place holds something else or can't be written.
        """

    def write(self, folder: Path, made: Manifest, count: Count) -> Published:
        """Write the artifact. Readers see nothing of it before it is whole."""

    def published(self) -> Published:
        """Return the address of the artifact that is there."""


def check(place: Place, *, name: str, source: str, recipe: Mapping[str, Any]) -> None:
    """Raise UnsuitableError if the place holds the artifact of another build."""
    found = place.existing()
    if found is None:
        return
    same = (
        found.name == name and found.lineage.uri == source and found.lineage.recipe == dict(recipe)
    )
    if not same:
        raise UnsuitableError(
            f'spec.output: "{place.uri}" can\'t work because it holds an artifact of another build: {found.name}, made '
            f"of {found.lineage.uri}. Use another place, or delete that artifact."
        )


def publish(place: Place, folder: Path, made: Manifest, count: Count) -> Published:
    """Write the artifact, or keep the same one that is there; UnsuitableError says how another one differs."""
    check(place, name=made.name, source=made.lineage.uri, recipe=made.lineage.recipe)
    found = place.existing()
    if found is None:
        return place.write(folder, made, count)
    if files := manifest.differing(found, made):
        raise UnsuitableError(
            f'spec.output: "{place.uri}" holds an artifact of the same recipe that is not equal: '
            f"{manifest.explain(files)}{_why(found, made)}. Use another place, or delete that artifact."
        )
    return place.published()


def _why(found: Manifest, made: Manifest) -> str:
    """Return the parts of the lineage that differ, as text."""
    one, other = found.lineage.model_dump(), made.lineage.model_dump()
    parts = [key for key in one if one[key] != other[key]]
    if not parts:
        return " (from the same source by the same versions, so a step is not repeatable here)"
    return f" (another {' and '.join(parts)})"


def files(made: Manifest) -> list[str]:
    """Return the files in the order of writing: config.json, by which engines know a model, comes last."""
    return sorted(made.files, key=lambda name: (name == "config.json", name))
