"""Recipes and small checkpoints for tests of builds."""

import json
import struct
from pathlib import Path
from typing import Any

from slipstream_runtime.build import workspace
from slipstream_runtime.build.recipe import Recipe
from slipstream_runtime.build.workspace import Record, Workspace

CONFIG = {"model_type": "llama", "dtype": "float16", "hidden_size": 4, "num_hidden_layers": 1}


def recipe(folder: Path, **changes: Any) -> Recipe:
    """A recipe with one quantization, whose folders lie below the one that is given."""
    plain = {
        "name": "tiny",
        "uid": "uid-1",
        "source": f"file://{folder}/source",
        "steps": [{"quantize": {"scheme": "w8a8"}}],
        "output": {"uri": f"file://{folder}/out/tiny"},
        "work": str(folder / "work"),
        "cache": str(folder / "cache"),
    }
    return Recipe.model_validate({**plain, **changes})


def weights(numbers: int, *, value: int = 0) -> bytes:
    """A file of safetensors with one tensor of `numbers` 16-bit values."""
    entry = {"dtype": "F16", "shape": [numbers], "data_offsets": [0, 2 * numbers]}
    header = json.dumps({"w": entry}).encode()
    return struct.pack("<Q", len(header)) + header + bytes([value]) * (2 * numbers)


def checkpoint(folder: Path, *, value: int = 0) -> Path:
    """Write a checkpoint of 100 parameters."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "model.safetensors").write_bytes(weights(100, value=value))
    (folder / "tokenizer.json").write_text("{}")
    return folder


def finished(folder: Path, *, value: int = 0, **changes: Any) -> Recipe:
    """A build of a source of the hub whose steps have finished, and that is still to be published."""
    made = recipe(folder, source="hf://org/tiny", **changes)
    work = Workspace(made.work)
    lineage = {"revision": "1" * 40, "sha256": "2" * 64, "datasets": {}}
    source = checkpoint(folder / "source")
    result = checkpoint(work.checkpoint("0-quantize"), value=value)
    for stage, place, facts in (("source", source, lineage), ("0-quantize", result, {})):
        files = workspace.entries(place, workspace.names(place))
        work.keep(Record(stage=stage, folder=place, files=files, facts=facts))
    return made
