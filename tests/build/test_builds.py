"""A whole build with the real libraries: killed in the middle, resumed, and repeated from the command line."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from dev import paths
from dev.environments import locked
from slipstream_runtime import contract
from slipstream_runtime.build.recipe import Recipe
from tests.support import build_processes, builders, builds

TARGET = paths.REPOSITORY / "dev" / "models" / "target"
ITEMS = paths.REPOSITORY / "dev" / "models" / "heldout.jsonl"
STEPS = [{"quantize": {"scheme": "w8a8"}}]
QUALITY = {
    "dataset": {"uri": str(ITEMS), "fields": {"reference": "answer"}},
    "metrics": [{"name": "ExactMatch", "maxRegression": 0.2}],
    "maxItems": 48,
    "maxTokens": 48,
}


@dataclass
class Built:
    """Finished build, with the reports of its stages and the progress at which one was killed."""

    recipe: Recipe
    reports: dict[str, dict[str, Any]]
    killed: dict[str, Any]
    answers: list[int]
    """Kept answers after the kill, and at the end."""

    @property
    def artifact(self) -> Path:
        return Path(self.recipe.output.uri.removeprefix("file://"))


def answers(recipe: Recipe) -> int:
    """Answers that the evaluation has kept."""
    files = (recipe.work / "quality").glob("answers-*.jsonl")
    return sum(line.startswith("{") for file in files for line in file.read_text().splitlines())


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("build")
    recipe = builds.recipe(folder, source=f"file://{TARGET}", steps=STEPS, quality=QUALITY)
    reports = {}
    for stage in ("source", "0-quantize"):
        reports[stage] = build_processes.start(recipe, stage).report()
    # NB: the source has answered, and the checkpoint's own answers are on the way.
    killed = build_processes.start(recipe, "0-quality").kill_when(
        lambda status: (status["done"] or 0) >= 64
    )
    kept = answers(recipe)
    reports["0-quality"] = build_processes.start(recipe, "0-quality").report()
    counts = [kept, answers(recipe)]
    reports["publish"] = build_processes.start(recipe, "publish").report()
    return Built(recipe, reports, killed, counts)


def test_a_checkpoint_is_smaller_keeps_its_answers_and_is_published(built: Built) -> None:
    manifest = json.loads((built.artifact / contract.BUILD_MANIFEST).read_text())
    config = json.loads((built.artifact / "config.json").read_text())
    assert config["quantization_config"]["quant_method"] == "compressed-tensors"
    assert built.reports["publish"]["bytes"] < 0.7 * built.reports["source"]["bytes"]
    assert manifest["lineage"]["versions"]["llmcompressor"]
    assert {"tokenizer.json", "chat_template.jinja"} <= manifest["files"].keys()
    quality = built.reports["0-quality"]
    assert quality["verdict"] == "Passed"
    assert quality["metrics"][0]["candidate"] >= 0.9


def test_the_estimate_of_memory_holds(built: Built) -> None:
    estimate = built.reports["source"]["estimate"]["memory"]
    for stage in ("0-quantize", "0-quality"):
        assert built.reports[stage]["peakMemory"] < 1.5 * estimate


def test_an_evaluation_that_was_killed_goes_on_with_the_missing_answers(built: Built) -> None:
    assert built.killed["stage"] == "0-quality"
    assert built.killed["total"] == 96
    assert built.killed["unit"] == "answers"
    kept, all_answers = built.answers
    assert 48 <= kept < 96
    # An answer that was asked twice would be kept twice.
    assert all_answers == 96


def test_the_command_line_builds_the_same_bytes_of_a_manifest(built: Built, tmp_path: Path) -> None:
    body = {
        "apiVersion": "slipstream.dev/v1alpha1",
        "kind": "ModelBuild",
        "metadata": {"name": "tiny"},
        "spec": {
            "source": f"file://{TARGET}",
            "steps": STEPS,
            "output": {"uri": "pvc://models/tiny"},
        },
    }
    file = tmp_path / "build.yaml"
    file.write_text(yaml.safe_dump(body))
    python = locked.python(builders.LOCK)
    command = [sys.executable, "-m", "slipstream_cli", "build", "-f", str(file), "--local"]
    command += ["--python", str(python), "--output-uri", f"file://{tmp_path}/out", "-o", "json"]
    folders = [paths.REPOSITORY / name for name in ("cli", "operator", "runtime", "simulator")]
    done = subprocess.run(
        command,
        env=builders.environment()
        | {
            "PYTHONPATH": os.pathsep.join(map(str, folders)),
            "XDG_CACHE_HOME": str(tmp_path / "cache"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["uri"] == f"file://{tmp_path}/out"
    assert found["sizeAfter"] < found["sizeBefore"]
    assert [stage["stage"] for stage in found["stages"]] == ["source", "0-quantize", "publish"]
    assert found["stages"][-1]["files"] == built.reports["publish"]["files"]
