"""Stages of builds as processes of the builder's environment."""

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from dev import waiting
from dev.environments import locked
from slipstream_runtime import contract
from slipstream_runtime.build.recipe import Recipe
from tests.support import builders

HANG_SECONDS = 600.0


@dataclass
class Stage:
    """One running stage."""

    process: subprocess.Popen[bytes]
    log: Path
    termination: Path

    def end(self) -> tuple[int, str]:
        """Exit code, and the report or the reason."""
        code = self.process.wait(timeout=HANG_SECONDS)
        text = self.termination.read_text() if self.termination.exists() else self.log.read_text()
        return code, text

    def report(self) -> dict[str, Any]:
        code, text = self.end()
        assert code == 0, text + self.log.read_text()[-3000:]
        found: dict[str, Any] = json.loads(text)
        return found


def follow(
    process: subprocess.Popen[str], log: Path, reached: Callable[[dict[str, Any]], bool]
) -> dict[str, Any]:
    """Wait until the stage that writes this log is so far, while its command runs; return its progress."""
    seen: dict[str, Any] = {}

    def done() -> bool:
        assert process.poll() is None, process.stderr and process.stderr.read()
        seen.update(_status(log))
        return bool(seen) and reached(seen)

    waiting.until(done, seconds=HANG_SECONDS, what="the progress", log=log, interval=0.02)
    return seen


def _status(log: Path) -> dict[str, Any]:
    for line in log.read_text().splitlines() if log.exists() else ():
        if '"listening"' in line:
            url = f"http://127.0.0.1:{json.loads(line)['management']}{contract.STATUS_PATH}"
            found: dict[str, Any] = httpx.get(url, timeout=60).json()
            return found
    return {}


def start(recipe: Recipe, stage: str, **variables: str) -> Stage:
    """Start one stage, with these variables of the environment."""
    folder = recipe.work.parent
    folder.mkdir(parents=True, exist_ok=True)
    config, log = folder / f"{stage}.json", folder / f"{stage}.log"
    termination = folder / f"{stage}.termination"
    termination.unlink(missing_ok=True)
    config.write_text(recipe.model_dump_json(by_alias=True, exclude_none=True, exclude_unset=True))
    command = [str(locked.python(builders.LOCK)), "-m", contract.BUILD_MODULE]
    command += ["--config", str(config), "--stage", stage, "--management-port", "0"]
    command += ["--termination-log", str(termination)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env=builders.environment() | variables
        )
    return Stage(process, log, termination)
