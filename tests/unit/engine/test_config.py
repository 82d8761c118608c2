"""The engine's configuration file: what is accepted, and how a bad one is told."""

import json
from pathlib import Path
from typing import Any

import pytest

from slipstream_runtime.engine import config
from slipstream_runtime.errors import UnsuitableError

GOOD: dict[str, Any] = {"model": {"uri": "file:///m", "name": "m"}, "drainSeconds": 60}


def write(folder: Path, content: object) -> Path:
    path = folder / "engine.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_the_least_configuration_has_vllms_defaults(tmp_path: Path) -> None:
    loaded = config.load(write(tmp_path, GOOD))
    assert loaded.quantization.method == "auto"
    assert loaded.cache.prefix
    assert loaded.batching.max_sequences is None


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "not JSON"),
        ("[]", "file: Input should be"),
        ({"drainSeconds": 1}, "model: Field required"),
        ({**GOOD, "colour": 1}, "colour: Extra inputs are not permitted"),
        ({**GOOD, "drainSeconds": -1}, "drainSeconds: Input should be greater"),
        ({**GOOD, "tensorParallel": 0}, "tensorParallel: Input should be greater"),
        ({**GOOD, "speculation": {"tokens": 0, "method": "ngram"}}, "speculation.tokens"),
        (
            {**GOOD, "speculation": {"tokens": 2}},
            "speculation: Value error, a draft belongs to method eagle3, and to no method",
        ),
        (
            {**GOOD, "speculation": {"tokens": 2, "method": "ngram", "draft": "file:///d"}},
            "a draft belongs to method eagle3",
        ),
        (
            {**GOOD, "speculation": {"tokens": 2, "method": "eagle3"}},
            "a draft belongs to method eagle3",
        ),
        ({**GOOD, "limits": {"concurrency": 0}}, "limits.concurrency: Input should be greater"),
        ({**GOOD, "limits": {"timeoutSeconds": 0}}, "limits.timeoutSeconds: Input should be"),
        (
            {**GOOD, "output": {"regex": "a", "grammar": "b"}},
            "output: Value error, at most one of schema, regex and grammar",
        ),
    ],
)
def test_a_bad_file_is_told_in_one_line_with_its_keys(
    tmp_path: Path, content: object, reason: str
) -> None:
    path = write(tmp_path, content)
    with pytest.raises(UnsuitableError) as caught:
        config.load(path)
    assert reason in caught.value.reason
    assert caught.value.reason.startswith(str(path))
    assert "\n" not in caught.value.reason
    assert caught.value.exit_code == 2


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(UnsuitableError, match="No such file"):
        config.load(tmp_path / "none.json")
