"""Environment of the GPU image, installed from its lock; it needs no GPU.

The folder's name is a hash of everything that decides its content. It is renamed into place when it
is complete, so an interrupted build leaves nothing that looks finished.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from dev import locks, paths
from dev.environments import toolkit
from dev.errors import DevError

LOCK = paths.REPOSITORY / "requirements" / "runtime-cuda.txt"
Report = Callable[[str, float], None]


def folder() -> Path:
    """Return the folder of the present lock's environment, whether or not it is built yet."""
    digest = hashlib.sha256(sys.version.encode() + sys.base_prefix.encode())
    for file in (LOCK, Path(toolkit.__file__)):
        digest.update(file.read_bytes())
    return paths.cache() / "cuda" / digest.hexdigest()[:16]


def python() -> Path:
    return folder() / "bin" / "python"


def home() -> Path:
    """Return the folder of the environment's CUDA toolkit."""
    return toolkit.home(folder())


def build(*, report: Report) -> Path:
    """Install the lock unless that was done, and return the folder; a second caller waits."""
    there = folder()
    with locks.held(there.parent):
        if not there.exists():
            partial = there.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            _install(partial, there=there, report=report)
            partial.rename(there)
    return there


def _install(partial: Path, *, there: Path, report: Report) -> None:
    log = there.with_suffix(".log")
    uv = shutil.which("uv", path=f"{sys.prefix}/bin{os.pathsep}{os.environ.get('PATH', '')}")
    if uv is None:
        raise DevError("the CUDA environment needs uv", remedy="run `make install`")
    environment = os.environ | {"VIRTUAL_ENV": str(partial)}

    def step(name: str, *command: str) -> None:
        begin = time.monotonic()
        with log.open("a") as output:
            code = subprocess.run(
                command, env=environment, stdout=output, stderr=output, check=False
            ).returncode
        if code != 0:
            raise DevError(f"{name} failed", log=log, remedy="run `python -m dev cuda` again")
        report(name, time.monotonic() - begin)

    log.unlink(missing_ok=True)
    # NB: scripts must name the folder that the environment is renamed to.
    step(
        "make the environment",
        uv,
        "venv",
        "--relocatable",
        "--python",
        sys.executable,
        str(partial),
    )
    step("install the lock", uv, "pip", "sync", "--require-hashes", str(LOCK))
    begin = time.monotonic()
    toolkit.complete(partial)
    report("complete the CUDA toolkit", time.monotonic() - begin)
    log.unlink()
