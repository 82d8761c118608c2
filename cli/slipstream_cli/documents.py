"""Objects of a YAML file, as `kubectl apply` would read them."""

import dataclasses
import sys
from pathlib import Path
from typing import Any

import yaml

from slipstream_cli.checkpoints import UnreadableError


@dataclasses.dataclass(frozen=True)
class Document:
    """Object of a YAML file."""

    path: Path
    body: dict[str, Any]

    @property
    def kind(self) -> str:
        """Kind of the object."""
        return str(self.body.get("kind"))

    @property
    def metadata(self) -> dict[str, Any]:
        """Metadata; empty if it is missing."""
        found = self.body.get("metadata")
        return found if isinstance(found, dict) else {}

    @property
    def name(self) -> str:
        """Name of the object."""
        return str(self.metadata.get("name", ""))


def read(path: Path) -> list[Document]:
    """Return the objects of a file, and those inside its Lists. The path - is the standard input."""
    try:
        text = sys.stdin.read() if path == Path("-") else path.read_text()
        bodies = list(yaml.safe_load_all(text))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise UnreadableError(f"{path}: can't be read as YAML: {error}") from error
    found = []
    for body in bodies:
        items = body.get("items") if isinstance(body, dict) and body.get("kind") == "List" else None
        found += items if isinstance(items, list) else [body]
    return [Document(path, body) for body in found if isinstance(body, dict)]


def choose(
    documents: list[Document],
    path: Path,
    kind: str,
    *,
    name: str | None = None,
    hint: str,
    several: str = "choose one with --name",
) -> Document:
    """Return the one object of a kind, or the one that has the name."""
    found = [entry for entry in documents if entry.kind == kind]
    held = ", ".join(entry.name for entry in found)
    if found and name is not None:
        found = [entry for entry in found if entry.name == name]
        if not found:
            raise UnreadableError(f"{path}: holds no {kind} {name}, only {held}")
    if not found:
        others = ", ".join(sorted({entry.kind for entry in documents})) or "nothing"
        raise UnreadableError(f"{path}: holds no {kind}, but {others}: {hint}")
    if len(found) > 1:
        raise UnreadableError(f"{path}: holds {len(found)} {kind}s ({held}): {several}")
    if not isinstance(found[0].body.get("spec"), dict):
        raise UnreadableError(f"{path}: {kind} {found[0].name} has no spec")
    return found[0]
