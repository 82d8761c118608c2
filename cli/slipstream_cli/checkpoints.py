"""Checkpoints on this machine: configuration and size of a model."""

import json
from pathlib import Path
from typing import Any

from slipstream_operator.core.facts import ModelFacts


class UnreadableError(Exception):
    """A file that was named can't be used."""


def read(*, config: Path | None, folder: Path | None) -> ModelFacts:
    """Return the facts of a config.json, or of a folder with one and the weights; UnreadableError if it is no such."""
    if folder is None:
        return ModelFacts(config=_config(config)) if config else ModelFacts()
    # Mistral's checkpoints hold the same weights a second time, as consolidated files.
    size = sum(
        path.stat().st_size
        for path in folder.glob("*.safetensors")
        if not path.name.startswith("consolidated")
    )
    return ModelFacts(bytes=size or None, config=_config(config or folder / "config.json"))


def _config(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise UnreadableError(f"{path}: is not readable as JSON: {error}") from error
    if not isinstance(content, dict):
        raise UnreadableError(f"{path}: is no model's config.json, which holds an object")
    return content
