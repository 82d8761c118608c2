"""Control groups of one cluster, by which all its processes are found and killed.

Works on version 1 (one hierarchy per controller) and on version 2 (one for all).
"""

import contextlib
import os
import signal
from pathlib import Path

from dev import waiting
from dev.errors import DevError


def _hierarchies() -> dict[Path, bool]:
    """Mount point of each hierarchy, and whether it is version 2."""
    found: dict[Path, bool] = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        kind = after.split()[0]
        if kind in ("cgroup", "cgroup2"):
            found[Path(before.split()[4])] = kind == "cgroup2"
    if not found:
        raise DevError("no control group file system is mounted", remedy="mount /sys/fs/cgroup")
    return found


def create(name: str) -> list[Path]:
    """Make the cluster's groups and return those for its own components, the pods' beside them."""
    groups = []
    found = _hierarchies()
    for root, unified in found.items():
        if unified and len(found) > 1:
            continue  # NB: a hybrid layout; its version 2 tree carries no controller.
        top, system = root / name, root / name / "system"
        if unified:
            _delegate(root)
        for group in (top, system):
            group.mkdir(exist_ok=True)
            for file in ("cpuset.cpus", "cpuset.mems"):  # NB: empty ones let no process in (v1).
                if not unified and (group / file).exists():
                    (group / file).write_text((group.parent / file).read_text())
        if unified:
            _delegate(top)
        groups.append(system)
    return groups


def _delegate(group: Path) -> None:
    wanted = {"cpu", "cpuset", "memory", "pids", "io", "hugetlb"}
    have = wanted & set((group / "cgroup.controllers").read_text().split())
    (group / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in sorted(have)))


def processes(name: str, *, container: str | None = None) -> set[int]:
    """Every process of the cluster, those of its pods included, or those of the container with this id alone."""
    found: set[int] = set()
    for root in _hierarchies():
        for folder, _, _ in os.walk(root / name):
            if container is None or Path(folder).name == container:
                with contextlib.suppress(FileNotFoundError, OSError):
                    procs = (Path(folder) / "cgroup.procs").read_text()
                    found |= {int(pid) for pid in procs.split()}
    return found


def exists(name: str) -> bool:
    return any((root / name).exists() for root in _hierarchies())


def destroy(name: str, *, seconds: float = 30) -> None:
    """Kill every process of the cluster, then remove its groups."""

    def empty() -> bool:
        alive = processes(name) - {0}
        for pid in alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not alive

    def gone() -> bool:
        if not empty():
            return False
        for root in _hierarchies():
            for folder, _, _ in os.walk(root / name, topdown=False):
                with contextlib.suppress(OSError):
                    Path(folder).rmdir()
        return not exists(name)

    waiting.until(gone, seconds=seconds, what=f"removing the control groups of {name}")
