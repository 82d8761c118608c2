"""Builds by the build runner, stage by stage as a Job runs them, each in a process of the builder's environment."""

import functools
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dev import paths
from dev.environments import locked
from dev.errors import DevError
from dev.models import heldout, language, puzzles
from slipstream_runtime import contract

MODELS: Final = paths.REPOSITORY / "dev" / "models"
SOURCE: Final = MODELS / "solver"
EASY: Final = MODELS / "target"
"""Model that gives all its answers right, to easier questions."""
DRAFT: Final = MODELS / "solver-draft"
QUESTIONS: Final = {SOURCE: MODELS / "puzzles-heldout.jsonl", EASY: MODELS / "heldout.jsonl"}
TASKS: Final = {SOURCE: puzzles.TASKS, EASY: language.TASKS}
SHARES: Final = {SOURCE: puzzles.MIX, EASY: dict.fromkeys(language.TASKS, 1)}
LESSONS: Final = MODELS / "puzzles-training.jsonl"
_FIELDS: Final = {"reference": "answer"}
MAX_REGRESSION: Final = 0.01
"""Greatest loss of right answers, as a share of all questions."""
_POLL_SECONDS: Final = 0.2


@functools.cache
def lessons(folder: Path, count: int, source: Path = SOURCE) -> Path:
    """Return a file of training questions, drawn like those that the source has seen; none is held out."""
    path = folder / f"lessons-{source.name}-{count}.jsonl"
    if path.exists():
        return path
    rng, part = random.Random(2), folder / f"lessons.{os.getpid()}"
    names, shares = list(SHARES[source]), list(SHARES[source].values())
    heldout.write(
        part,
        (
            language.draw(rng, task=task, held_out=False, tasks=TASKS[source])
            for task in rng.choices(names, shares, k=count)
        ),
    )
    return part.replace(path)


def calibration(file: Path) -> dict[str, Any]:
    """Return the calibration on the questions of a file."""
    return {"dataset": {"uri": str(file), "fields": _FIELDS}, "samples": 256, "maxLength": 256}


def training(file: Path, *, epochs: float, rate: float, **more: Any) -> dict[str, Any]:
    """Return the training on the questions of a file, for healing or distillation."""
    return {
        "dataset": {"uri": str(file), "fields": _FIELDS},
        "maxLength": 256,
        "epochs": epochs,
        "batch": 16,
        "learningRate": rate,
        **more,
    }


@functools.cache
def builder() -> str:
    """Return the Python of the builder."""
    return str(locked.python(paths.REPOSITORY / "requirements" / "builder.txt"))


def environment() -> dict[str, str]:
    """Return an environment that finds our code, asks no hub and leaves the other cores alone."""
    return os.environ | {
        "PYTHONPATH": f"{paths.REPOSITORY / 'runtime'}:{paths.REPOSITORY}",
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
    }


@dataclass(frozen=True)
class Outcome:
    """Reports of the stages of a build that has ended."""

    folder: Path
    """Artifact, if it was published."""
    stages: Mapping[str, Mapping[str, Any]]
    rejected: str | None
    """Reason for which quality refused it."""

    @property
    def peak_memory(self) -> int:
        """Bytes of the largest stage."""
        return max(report.get("peakMemory", 0) for report in self.stages.values())

    @property
    def weights(self) -> int:
        """Bytes of the checkpoint of the last step."""
        sizes = [
            report["bytes"]
            for name, report in self.stages.items()
            if name != contract.SOURCE_STAGE and report.get("bytes")
        ]
        return int(sizes[-1])

    def quality(self, index: int = 0) -> Mapping[str, Any]:
        """Return the report on the answers after a step."""
        return self.stages[contract.quality_stage(index)]


@dataclass(frozen=True)
class Build:
    """Recipe in a folder of its own, where a build that was ended goes on."""

    home: Path
    name: str
    steps: Sequence[Mapping[str, Any]]
    source: Path = SOURCE
    evaluated: bool = True
    limit: float | None = MAX_REGRESSION
    items: int | None = None
    """Number of questions of the evaluation; None takes all."""

    @property
    def artifact(self) -> Path:
        """Folder that the build publishes."""
        return self.home / "out" / self._uid

    def run(self) -> Outcome:
        """Run all stages; DevError if one fails for another reason than quality."""
        self._write()
        reports = {}
        for stage in self._stages():
            process = self.start(stage)
            process.wait()
            left = self._report.read_text()
            try:
                reports[stage] = json.loads(left)
            except ValueError:
                raise DevError(f"{self.name}, {stage}: {left}") from None
            if process.returncode:
                reason = str(reports[stage]["reason"])
                return Outcome(self.artifact, reports, reason)
        return Outcome(self.artifact, reports, None)

    def kill(self, stage: str, *, at: int) -> int:
        """Run from the start to this stage, and kill it by SIGKILL once it has kept a checkpoint after `at` steps.

        Return the steps of that checkpoint.
        """
        for left in (self._work, self.artifact):
            shutil.rmtree(left, ignore_errors=True)
        self._write()
        for earlier in self._stages()[: self._stages().index(stage)]:
            if self.start(earlier).wait():
                raise DevError(f"{self.name}, {earlier}: {self._report.read_text()}")
        process = self.start(stage)
        while max(self._kept(), default=0) < at:
            if _ended(process):
                raise DevError(f"{self.name}, {stage}: ended before step {at}")
        process.send_signal(signal.SIGKILL)
        process.wait()
        return max(self._kept())

    def resume(self, stage: str) -> int:
        """Run a killed stage again, and return the steps of the earliest checkpoint that it had meanwhile."""
        process = self.start(stage)
        seen = self._kept()
        while not _ended(process):
            seen |= self._kept()
        if process.returncode:
            raise DevError(f"{self.name}, {stage}: {self._report.read_text()}")
        return min(seen)

    def start(self, stage: str) -> subprocess.Popen[bytes]:
        """Start a stage. The engine's Python measures drafts, and the builder's does the rest."""
        engine = stage.endswith("quality") and any(
            step.get("distill", {}).get("purpose") == "Draft" for step in self.steps
        )
        command = [sys.executable if engine else builder(), "-m", contract.BUILD_MODULE]
        command += ["--config", str(self._recipe), "--stage", stage, "--management-port", "0"]
        self._report.unlink(missing_ok=True)
        with (self.home / f"{self._uid}.log").open("ab") as log:
            return subprocess.Popen(
                [*command, "--termination-log", str(self._report)],
                env=environment(),
                stdout=log,
                stderr=log,
            )

    @property
    def _uid(self) -> str:
        """Identity: another recipe of the same name has another one, so that it starts from the beginning."""
        decided = json.dumps([str(self.source), list(self.steps), self._quality()])
        return f"{self.name}-{hashlib.sha256(decided.encode()).hexdigest()[:12]}"

    @property
    def _recipe(self) -> Path:
        return self.home / f"{self._uid}.json"

    @property
    def _report(self) -> Path:
        return self.home / f"{self._uid}.report"

    @property
    def _work(self) -> Path:
        return self.home / f"{self._uid}.work"

    def _stages(self) -> tuple[str, ...]:
        return contract.build_stages(
            [next(iter(step)) for step in self.steps], evaluated=self.evaluated
        )

    def _kept(self) -> set[int]:
        """Return the steps of the whole checkpoints of a training."""
        found = (self._work / "training").glob("*/checkpoint-*/whole")
        return {int(path.parent.name.partition("-")[2]) for path in found}

    def _quality(self) -> Mapping[str, Any] | None:
        if not self.evaluated:
            return None
        metric = {"name": "ExactMatch"} | ({"maxRegression": self.limit} if self.limit else {})
        return {
            "dataset": {"uri": str(QUESTIONS[self.source]), "fields": _FIELDS},
            "metrics": [metric],
            "maxItems": self.items,
            "maxTokens": 64,
        }

    def _write(self) -> None:
        recipe = {
            "name": self.name,
            "uid": self._uid,
            "source": self.source.as_uri(),
            "steps": list(self.steps),
            "output": {"uri": self.artifact.as_uri()},
            "quality": self._quality(),
            "work": str(self._work),
            "cache": str(self.home / "cache"),
        }
        self._recipe.write_text(json.dumps(recipe))


def _ended(process: subprocess.Popen[bytes]) -> bool:
    """Wait for the end of the process for a moment; return whether it came."""
    try:
        process.wait(_POLL_SECONDS)
    except subprocess.TimeoutExpired:
        return False
    return True


def questions(source: Path = SOURCE) -> list[dict[str, str]]:
    """Return the held-out questions of a source."""
    return heldout.read(QUESTIONS[source])
