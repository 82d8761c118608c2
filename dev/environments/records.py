"""Find files that two packages of one lock install: the one written last wins, and the order is random.

uv and pip do not report it. Locks that the tests' own environment doesn't hold are installed for the check. The
outcome is kept beside the locks, with the hash of each lock.
"""

import csv
import hashlib
import importlib.metadata
import os
import re
import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from dev import paths
from dev.environments import cuda, locked
from dev.errors import DevError

LOCKS = paths.REPOSITORY / "requirements"
CHECKED = LOCKS / "checked.txt"
_PIN = re.compile(r"^([a-z0-9][a-z0-9.-]*)(?:\[[^]]*\])?==([^ ;\\]+)", re.MULTILINE)
HARMLESS = frozenset({"build_backend.py"})
"""Files of two packages that nothing imports."""


def shared(folder: Path) -> dict[str, list[str]]:
    """Files under a site-packages that more than one package says it owns, with the packages."""
    owners: dict[str, set[str]] = defaultdict(set)
    for package in importlib.metadata.distributions(path=[str(folder)]):
        name = package.name
        for file, *_ in csv.reader((package.read_text("RECORD") or "").splitlines()):
            owners[os.path.normpath(file)].add(name)
    return {
        file: sorted(names)
        for file, names in sorted(owners.items())
        if len(names) > 1 and file not in HARMLESS
    }


def pins(lock: Path) -> dict[str, str]:
    """Package -> version."""
    return dict(_PIN.findall(lock.read_text()))


def apart() -> list[Path]:
    """Locks with packages, more than one, that the tests' own environment lacks."""
    there = pins(LOCKS / "dev.txt").items()
    locks = [file for file in sorted(LOCKS.glob("*.txt")) if "--hash=" in file.read_text()]
    found = {file: pins(file) for file in locks}
    return [file for file, held in found.items() if len(held) > 1 and not held.items() <= there]


def digests() -> dict[str, str]:
    """Name of each such lock -> its hash."""
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in apart()}


def checked() -> dict[str, str]:
    """Hashes of the locks that were installed and found without such files."""
    found = {}
    for line in CHECKED.read_text().splitlines():
        digest, name = line.split()
        found[name] = digest
    return found


def main() -> None:
    """Install and check what changed, and write the list."""
    there, wanted = checked() if CHECKED.exists() else {}, digests()
    for name, digest in wanted.items():
        if there.get(name) == digest:
            continue
        if LOCKS / name == cuda.LOCK:
            cuda.build(report=lambda *_: None)
        found = _installed(LOCKS / name)
        if found:
            raise DevError(
                f"requirements/{name} has {_told(found)}", remedy="change pyproject.toml"
            )
    CHECKED.write_text("".join(f"{digest}  {name}\n" for name, digest in wanted.items()))


def _told(found: Mapping[str, list[str]]) -> str:
    file, names = next(iter(found.items()))
    return f"{len(found)} files of two packages, such as {file} of {' and '.join(names)}"


def _installed(lock: Path) -> dict[str, list[str]]:
    python = cuda.python() if lock == cuda.LOCK else locked.python(lock)
    return shared(next(python.parent.parent.glob("lib/python3.*/site-packages")))


if __name__ == "__main__":
    try:
        main()
    except DevError as error:
        sys.exit(str(error))
