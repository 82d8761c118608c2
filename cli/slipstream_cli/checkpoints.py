"""Configuration and size of a model whose files are on this machine."""

import json
from pathlib import Path
from typing import Any

from slipstream_operator.core.facts import ModelFacts


class UnreadableError(Exception):
    """Error for a file of the command line that can't be used."""


def read(*, config: Path | None, folder: Path | None) -> ModelFacts:
    """Return the facts of a config.json, or of a folder that holds it and the weights.

    Raise UnreadableError if the file is not a model's config.json.
    """
    if folder is None:
        return ModelFacts(config=_config(config)) if config else ModelFacts()
    # Mistral's checkpoints hold the same weights a second time, in consolidated files.
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
        raise UnreadableError(f"{path}: can't be read as JSON: {error}") from error
    if not isinstance(content, dict):
        raise UnreadableError(f"{path}: not a model's config.json: it must hold a JSON object")
    return content
