"""Processes that outlive the command line, known by pid and start time.

A pid alone may have been reused; together with the start time it names one process for good.
"""

import os
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dev.errors import DevError

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Process:
    """One process of the machine."""

    pid: int
    start: int

    @property
    def alive(self) -> bool:
        fields = _stat(self.pid)
        return bool(fields) and fields[0] not in "ZX" and int(fields[19]) == self.start

    @property
    def memory(self) -> int:
        """Resident memory in bytes."""
        return int(_stat(self.pid)[21]) * os.sysconf("SC_PAGE_SIZE") if self.alive else 0

    @property
    def cpu(self) -> float:
        """Seconds of processor time used so far."""
        fields = _stat(self.pid) if self.alive else []
        return (int(fields[11]) + int(fields[12])) / _TICKS if fields else 0.0


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def spawn(command: Sequence[str], *, groups: Sequence[Path], log: Path, cwd: Path) -> Process:
    """Start a command in the control groups given, detached from this process and its terminal.

    An intermediate shell exits at once, so that init and not the caller reaps the process.
    """
    joins = "".join(f"echo 0 > {shlex.quote(str(group / 'cgroup.procs'))} && " for group in groups)
    inner = f"{joins}exec {shlex.join(command)}"
    outcome = subprocess.run(
        ["/bin/sh", "-c", f"( {inner} ) </dev/null >>{shlex.quote(str(log))} 2>&1 & echo $!"],
        stdout=subprocess.PIPE,
        cwd=cwd,
        start_new_session=True,
        check=True,
    )
    pid = int(outcome.stdout)
    fields = _stat(pid)
    if not fields:
        raise DevError(f"{Path(command[0]).name} exited at once", log=log)
    return Process(pid=pid, start=int(fields[19]))


def run(command: Sequence[str | Path], *, stdin: str | None = None) -> str:
    """Run a short command to its end and return what it printed."""
    outcome = subprocess.run(
        [str(word) for word in command], input=stdin, capture_output=True, text=True, check=False
    )
    if outcome.returncode != 0:
        shown = shlex.join(str(word) for word in command)
        raise DevError(f"`{shown}` failed: {outcome.stderr.strip() or outcome.stdout.strip()}")
    return outcome.stdout
