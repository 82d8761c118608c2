"""Steps of builds in the builder's environment, and datasets for them."""

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dev import paths
from dev.environments import locked
from dev.models import language

LOCK = paths.REPOSITORY / "requirements" / "builder.txt"
MIX = {"fact": 2, "lookup": 3, "sum": 6, "json": 3}


@dataclass
class Builder:
    """Running process of the builder's environment."""

    process: subprocess.Popen[str]
    folder: Path

    def run(self, step: dict[str, Any], source: Path, name: str, **more: Any) -> dict[str, Any]:
        """Run a step; its checkpoint is `folder / name`."""
        job = {
            "step": step,
            "source": str(source),
            "target": str(self.folder / name),
            "training": str(self.folder / "training" / name),
        }
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(job | more) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(f"the builder ended with {self.process.wait()}")
        found: dict[str, Any] = json.loads(line)
        return found


def environment() -> dict[str, str]:
    """Variables of a builder: offline, one thread, and this checkout's packages."""
    folders = [paths.REPOSITORY / "runtime", paths.REPOSITORY]
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(map(str, folders)),
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
    }


@contextmanager
def running(folder: Path) -> Iterator[Builder]:
    """Start a builder, and end it with the block."""
    command = [str(locked.python(LOCK)), "-m", "tests.support.build_worker"]
    with _lines(command, environment()) as process:
        yield Builder(process, folder)


@contextmanager
def _lines(command: list[str], variables: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """Start a process that answers each line with a line, and end it with the block."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=variables,
        cwd=paths.REPOSITORY,
    )
    try:
        yield process
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait(timeout=60)
        assert process.stdout is not None
        process.stdout.close()


def questions(path: Path, count: int, *, seed: int = 5) -> Path:
    """Write training questions of the tiny target, with their answers."""
    rng = random.Random(seed)
    tasks = rng.choices(list(MIX), list(MIX.values()), k=count)
    drawn = [language.draw(rng, task=task, held_out=False) for task in tasks]
    lines = [json.dumps({"prompt": one.prompt, "reference": one.answer}) for one in drawn]
    path.write_text("\n".join(lines) + "\n")
    return path


def run_script(script: Path, folder: Path) -> dict[str, Any]:
    """Run a script in this folder, and return what it writes to results.json there."""
    done = subprocess.run(
        [str(locked.python(LOCK)), str(script), str(folder)],
        env=environment(),
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    results: dict[str, Any] = json.loads((folder / "results.json").read_text())
    return results


@dataclass
class Engine:
    """Running process with the real vLLM."""

    process: subprocess.Popen[str]

    def answers(self, folders: list[Path]) -> dict[str, Any]:
        """Right answers to the held-out questions, or vLLM's error, under the name of each folder."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps([str(folder) for folder in folders]) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(f"vLLM ended with {self.process.wait()}")
        return {Path(folder).name: answer for folder, answer in json.loads(line).items()}


@contextmanager
def answering() -> Iterator[Engine]:
    """Start vLLM, and end it with the block."""
    more = {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_CPU_KVCACHE_SPACE": "1",
    }
    command = [sys.executable, "-m", "tests.support.vllm_answers"]
    with _lines(command, environment() | more) as process:
        yield Engine(process)
