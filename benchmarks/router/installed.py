"""The programs that the router is compared with, fetched where they are missing, and installed for this alone."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from dev import paths
from dev.environments import locked
from dev.errors import DevError

LOCK: Final = Path("requirements/bench-router.txt")


class UnobtainableError(Exception):
    """A program can't be had here; the message says why."""


def nginx() -> Path:
    """The one on PATH, or Debian's package unpacked in the cache: installed, it would begin to serve port 80."""
    found = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is not None:
        return Path(found)
    folder = paths.cache() / "nginx"
    program = folder / "usr" / "sbin" / "nginx"
    if not program.exists():
        folder.mkdir(parents=True, exist_ok=True)
        try:
            _run(["apt-get", "download", "nginx"], folder=folder)
        except UnobtainableError:
            _run(["apt-get", "update"], folder=folder)
            _run(["apt-get", "download", "nginx"], folder=folder)
        [package] = folder.glob("nginx_*.deb")
        _run(["dpkg-deb", "--extract", package.name, "."], folder=folder)
        package.unlink()
    _run([str(program), "-v"], folder=folder)
    return program


def peer() -> Path:
    """The Python of an environment of its own that holds vllm-router as the lock has it."""
    try:
        return locked.python(LOCK)
    except DevError as error:
        raise UnobtainableError(str(error)) from None


def _run(command: Sequence[str], *, folder: Path) -> None:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except OSError as error:
        raise UnobtainableError(f"`{' '.join(command)}`: {error}") from None
    if done.returncode:
        words = done.stderr.strip().splitlines()
        raise UnobtainableError(f"`{' '.join(command)}`: {words[-1] if words else 'failed'}")
