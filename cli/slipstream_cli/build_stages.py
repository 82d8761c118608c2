"""Stages of a build as processes of the builder's Python, with their progress."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import util
from pathlib import Path
from typing import Any, Final

import slipstream_runtime
from slipstream_cli.checkpoints import UnreadableError
from slipstream_runtime import contract

_POLL_SECONDS: Final = 0.5
"""Seconds between two reads of the progress."""
_LAST_LINES: Final = 5
"""Lines of the log that are shown of a process that left no reason."""
_BUILDER: Final = "llmcompressor"
"""Package that only the builder's environment has."""
MISSING: Final = """\
the builder's Python is missing. Make it once from the repository:
  uv venv --python 3.11 {folder}
  uv pip sync --require-hashes --python {python} requirements/builder.txt
or name another with --python."""

Show = Callable[[Mapping[str, Any]], None]
"""Called with the status of the running stage."""


@dataclass(frozen=True)
class Ended:
    """End of a stage's process."""

    code: int
    text: str
    """Report as JSON, or the reason of the failure."""

    @property
    def report(self) -> dict[str, Any]:
        """Report; empty after a failure that left only a reason."""
        with contextlib.suppress(ValueError):
            found = json.loads(self.text)
            if isinstance(found, dict):
                return found
        return {}


def builder(given: Path | None, cache: Path) -> Path:
    """Return the Python that runs the steps: the one that is given, this one, or the one in the cache."""
    if given is not None:
        return given
    if util.find_spec(_BUILDER) is not None:
        return Path(sys.executable)
    python = cache / "builder" / "bin" / "python"
    if not python.exists():
        raise UnreadableError(MISSING.format(folder=cache / "builder", python=python))
    return python


def plan(python: Path, config: Path) -> Ended:
    """Return the plan of the build, or why it can't run."""
    return _ask(python, "--config", str(config), "--plan")


def compare(python: Path, first: str, second: str, *, plain_http: bool) -> Ended:
    """Return the differences of two artifacts, or why they can't be read."""
    return _ask(python, "--compare", first, second, *(["--plain-http"] if plain_http else []))


def _ask(python: Path, *words: str) -> Ended:
    """Run the builder for an answer on its standard output."""
    done = subprocess.run(
        [str(python), "-m", contract.BUILD_MODULE, *words],
        env=_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    return Ended(done.returncode, done.stdout.strip() or _last(done.stderr))


def run(python: Path, config: Path, stage: str, *, logs: Path, show: Show) -> Ended:
    """Run one stage to its end."""
    logs.mkdir(parents=True, exist_ok=True)
    log, termination = logs / f"{stage}.log", logs / f"{stage}.termination"
    termination.unlink(missing_ok=True)
    command = [str(python), "-m", contract.BUILD_MODULE, "--config", str(config)]
    command += ["--stage", stage, "--management-port", "0", "--termination-log", str(termination)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=_environment(),
        )
    try:
        while process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_POLL_SECONDS)
            if (status := _status(log)) is not None:
                show(status)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
    with contextlib.suppress(OSError):
        return Ended(process.returncode, termination.read_text().strip())
    end = str(process.returncode)
    if process.returncode < 0:
        end = f"signal {-process.returncode}"
        if -process.returncode == signal.SIGKILL:
            end += ", as the kernel does when memory runs out"
    lines = _last(log.read_text(errors="replace"))
    return Ended(
        1, f"{stage}: the process ended with {end}. {lines} Run the build again: it resumes."
    )


def _status(log: Path) -> dict[str, Any] | None:
    """Return the progress of the process; None before it answers."""
    port = _port(log)
    if port is None:
        return None
    url = f"http://127.0.0.1:{port}{contract.STATUS_PATH}"
    with contextlib.suppress(OSError, ValueError), urllib.request.urlopen(url, timeout=5) as answer:
        found = json.load(answer)
        return found if isinstance(found, dict) else None
    return None


def _port(log: Path) -> int | None:
    """Return the port of the process from the first event of its log."""
    with log.open(errors="replace") as file:
        for line in file:
            with contextlib.suppress(ValueError, LookupError, TypeError):
                return int(json.loads(line)["management"])
    return None


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " ".join(lines[-_LAST_LINES:])


def _environment() -> dict[str, str]:
    """Return the environment of a stage, in which the builder's Python finds the stages of this installation."""
    runtime = str(Path(slipstream_runtime.__file__).parents[1])
    others = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return {**os.environ, "PYTHONPATH": os.pathsep.join([runtime, *filter(None, others)])}
