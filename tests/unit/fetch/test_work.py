"""The work of a fetch Job, on a model that is already there."""

import json
import time
from pathlib import Path

import pytest

from slipstream_runtime.fetch.work import Work
from slipstream_runtime.model_files.progress import Progress


@pytest.mark.parametrize("inspect", [False, True])
@pytest.mark.parametrize("name", ["config.json", "params.json"])
def test_a_model_of_either_format_is_reported(tmp_path: Path, name: str, inspect: bool) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / name).write_text("{}")
    (model / "consolidated.safetensors").write_bytes(b"12345")
    uri = f"file://{model}"
    progress = Progress(clock=time.monotonic)
    found = Work(uri, None, cache=tmp_path, inspect=inspect, progress=progress).run()
    assert json.loads(found)["model"] == {"uri": uri, "bytes": 5}
