"""A whole build from the command line with the real libraries: killed in the middle, and resumed."""

import json
import os
import signal
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
from tests.support import build_processes, builders
from tests.support.builders import Builder

TARGET = paths.REPOSITORY / "dev" / "models" / "target"
ITEMS = paths.REPOSITORY / "dev" / "models" / "heldout.jsonl"
STEP = {"quantize": {"scheme": "w8a8"}}
BUILD = {
    "apiVersion": "slipstream.dev/v1alpha1",
    "kind": "ModelBuild",
    "metadata": {"name": "tiny"},
    "spec": {
        "source": "pvc://models/target",
        "steps": [STEP],
        "quality": {
            "dataset": {
                "claim": {"name": "questions", "path": "heldout.jsonl"},
                "fields": {"reference": "answer"},
            },
            "metrics": [{"name": "ExactMatch", "maxRegression": "20%"}],
            "maxItems": 48,
            "maxTokens": 48,
        },
        "output": {"uri": "pvc://models/tiny"},
    },
}


@dataclass
class Command:
    """`slipstream build --local` in a folder."""

    folder: Path

    @property
    def work(self) -> Path:
        return self.folder / "work"

    @property
    def artifact(self) -> Path:
        return self.folder / "out" / "tiny"

    def start(self) -> subprocess.Popen[str]:
        file = self.folder / "build.yaml"
        file.write_text(yaml.safe_dump(BUILD))
        python = locked.python(builders.LOCK)
        words = [sys.executable, "-m", "slipstream_cli", "build", "-f", str(file), "--local"]
        words += ["--source", TARGET.as_uri(), "--dataset", f"questions={ITEMS}"]
        words += ["--python", str(python), "--output-uri", self.artifact.as_uri(), "-o", "json"]
        folders = [paths.REPOSITORY / name for name in ("cli", "operator", "runtime", "simulator")]
        more = {
            "PYTHONPATH": os.pathsep.join(map(str, folders)),
            "XDG_CACHE_HOME": str(self.folder / "cache"),
        }
        return subprocess.Popen(
            [*words, "--work", str(self.work)],
            env=builders.environment() | more,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@dataclass
class Built:
    """Finished build, with the state in which it was killed."""

    command: Command
    report: dict[str, Any]
    killed: dict[str, Any]
    """Progress of the stage that was killed."""
    said: str
    """Message of the run that was killed."""
    answers: list[int]
    """Kept answers after the kill, and at the end of the evaluation."""

    def stage(self, name: str) -> dict[str, Any]:
        return next(one for one in self.report["stages"] if one["stage"] == name)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    command = Command(tmp_path_factory.mktemp("build"))
    first = command.start()
    log = command.work / "logs" / "0-quality.log"
    # NB: the source has answered, and the checkpoint's own answers are on the way.
    seen = build_processes.follow(first, log, lambda status: (status["done"] or 0) >= 64)
    os.kill(_child(first), signal.SIGKILL)
    _, said = first.communicate(timeout=build_processes.HANG_SECONDS)
    assert first.returncode == 1, said
    # NB: the build deletes the answers at its end, but not what these links name.
    links = [command.folder / str(number) for number in range(2)]
    for link, file in zip(links, (command.work / "quality").glob("answers-*"), strict=True):
        link.hardlink_to(file)
    kept = _answers(links)
    second = command.start()
    out, errors = second.communicate(timeout=build_processes.HANG_SECONDS)
    assert second.returncode == 0, errors
    return Built(command, json.loads(out), seen, said, [kept, _answers(links)])


def _answers(files: list[Path]) -> int:
    """Answers that the evaluation has kept."""
    return sum(line.startswith("{") for file in files for line in file.read_text().splitlines())


def _child(process: subprocess.Popen[str]) -> int:
    """Return the process of the running stage."""
    return int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])


def test_a_checkpoint_is_smaller_keeps_its_answers_and_is_published(built: Built) -> None:
    artifact = built.command.artifact
    manifest = json.loads((artifact / contract.BUILD_MANIFEST).read_text())
    config = json.loads((artifact / "config.json").read_text())
    assert config["quantization_config"]["quant_method"] == "compressed-tensors"
    assert built.report["uri"] == artifact.as_uri()
    assert built.report["sizeAfter"] < 0.7 * built.report["sizeBefore"]
    assert manifest["lineage"]["versions"]["llmcompressor"]
    assert {"tokenizer.json", "chat_template.jinja"} <= manifest["files"].keys()
    quality = built.stage("0-quality")
    assert quality["verdict"] == "Passed"
    assert quality["metrics"][0]["candidate"] >= 0.9


def test_the_estimate_of_memory_holds(built: Built) -> None:
    estimate = built.stage("source")["estimate"]["memory"]
    for stage in ("0-quantize", "0-quality"):
        assert built.stage(stage)["peakMemory"] < 1.5 * estimate


def test_an_evaluation_that_was_killed_goes_on_with_the_missing_answers(built: Built) -> None:
    assert "0-quality: the process ended with signal 9" in built.said
    assert "Run the build again: it resumes." in built.said
    assert built.killed["stage"] == "0-quality"
    assert built.killed["total"] == 96
    assert built.killed["unit"] == "answers"
    kept, all_answers = built.answers
    assert 48 <= kept < 96
    # An answer that was asked twice would be kept twice.
    assert all_answers == 96


def test_another_process_makes_the_same_bytes(built: Built, builder: Builder) -> None:
    assert "facts" in builder.run(STEP, TARGET, "same")
    for path in (builder.folder / "same").iterdir():
        assert path.read_bytes() == (built.command.artifact / path.name).read_bytes()
