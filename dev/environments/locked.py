"""Environments for programs whose packages conflict with those of the tests."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from dev import locks, paths
from dev.errors import DevError


def python(lock: Path) -> Path:
    """Return the Python of an environment that holds exactly what the lock file names; made once."""
    digest = hashlib.sha256(lock.read_bytes() + sys.version.encode()).hexdigest()[:16]
    folder = paths.cache() / f"{lock.stem}-{digest}"
    found, complete = folder / "env" / "bin" / "python", folder / "complete"
    with locks.held(folder):
        if not complete.exists():
            shutil.rmtree(folder / "env", ignore_errors=True)
            uv = str(Path(sys.executable).with_name("uv"))
            _run([uv, "venv", "--quiet", "--python", sys.executable, str(folder / "env")])
            sync = [uv, "pip", "sync", "--quiet", "--require-hashes", "--python", str(found)]
            _run([*sync, str(lock)])
            complete.touch()
    return found


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        words = done.stderr.strip().splitlines()
        raise DevError(f"`{' '.join(command)}`: {words[-1] if words else 'failed'}")
