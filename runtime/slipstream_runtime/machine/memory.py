"""Memory of the container: the kernel's count of out-of-memory kills, and files that dead processes left in it."""

import contextlib
import resource
import stat
from pathlib import Path
from typing import Final

CGROUPS: Final = Path("/sys/fs/cgroup")
_COUNTERS: Final = ("memory.events", "memory/memory.oom_control")
"""Files that hold the line `oom_kill N`, of cgroup v2 and v1."""

_LIMITS: Final = ("memory.max", "memory/memory.limit_in_bytes")
"""Files with the memory limit in bytes, or `max`, of cgroup v2 and v1."""
_MACHINE: Final = Path("/proc/meminfo")
_STATUS: Final = Path("/proc/self/status")
_KIBI: Final = 1024


def limit(cgroups: Path = CGROUPS, machine: Path = _MACHINE) -> int | None:
    """Return the bytes of memory that this container may use; None if they can't be read."""
    found = []
    for name in _LIMITS:
        with contextlib.suppress(OSError, ValueError):
            found.append(int((cgroups / name).read_text()))
    with contextlib.suppress(OSError, ValueError, IndexError):
        found.append(
            int(machine.read_text().split()[1]) * 1024
        )  # its first line is MemTotal, in KiB
    return min(found, default=None)


def kills(cgroups: Path = CGROUPS) -> int | None:
    """Return the number of processes that the kernel killed because memory ran out; None if it can't be read."""
    for name in _COUNTERS:
        with contextlib.suppress(OSError, ValueError):
            for line in (cgroups / name).read_text().splitlines():
                key, _, value = line.partition(" ")
                if key == "oom_kill":
                    return int(value)
    return None


def clear(folder: Path, *, owner: int) -> int:
    """Delete the owner's files in a folder of shared memory, and return their bytes.

    NB: call it only for a folder of this pod, before the engine's first process. Then no process uses these files.
    """
    freed = 0
    with contextlib.suppress(OSError):
        for file in sorted(folder.iterdir()):
            with contextlib.suppress(OSError):
                found = file.lstat()
                if found.st_uid == owner and stat.S_ISREG(found.st_mode):
                    file.unlink()
                    freed += found.st_size
    return freed


def peak(status: Path = _STATUS) -> int:
    """Return the most bytes that this process has had in memory.

    getrusage also counts what its parent had when it forked, so it serves only where there is no /proc.
    """
    try:
        lines = status.read_text().splitlines()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _KIBI
    (found,) = (line for line in lines if line.startswith("VmHWM:"))
    return int(found.split()[1]) * _KIBI
