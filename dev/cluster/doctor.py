"""Requirements of the machine, with the command that meets each of them."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from dev import paths
from dev.errors import DevError

_GO = (1, 26)
_DISK_GIB, _MEMORY_GIB = 15, 4


@dataclass(frozen=True)
class Check:
    """Requirement: what was found, and the remedy."""

    name: str
    fulfilled: bool
    found: str
    remedy: str = ""
    package: str = ""


def checks() -> list[Check]:
    """Check all requirements; change nothing."""
    return [
        *_essential(),
        Check(
            name="Python",
            fulfilled=sys.version_info >= (3, 11),
            found=sys.version.split()[0],
            remedy="install Python 3.11 or newer",
        ),
        _go(),
        *(_tool(name, package=name) for name in ("gcc", "g++", "pkg-config")),
        _headers(),
        _space(),
        _memory(),
    ]


def require() -> None:
    """Raise DevError if no cluster can work on this machine; quick enough for every `up`."""
    lacking = [check for check in _essential() if not check.fulfilled]
    if lacking:
        found = "; ".join(f"{check.name} ({check.found})" for check in lacking)
        raise DevError(f"this machine lacks: {found}", remedy="python -m dev doctor")


def fix(lacking: list[Check]) -> None:
    """Install the Debian packages that the failed checks name."""
    packages = sorted({check.package for check in lacking if check.package})
    if not packages:
        return
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in (["apt-get", "update"], ["apt-get", "install", "--yes", *packages]):
        if subprocess.run(command, env=environment, check=False).returncode != 0:
            raise DevError(f"`{' '.join(command)}` failed", remedy="see its output above")


def _essential() -> list[Check]:
    tools = {"nft": "nftables", "ip": "iproute2", "nsenter": "util-linux", "unshare": "util-linux"}
    identity = os.geteuid()
    return [
        Check("Linux", sys.platform == "linux", sys.platform, "use a Linux machine"),
        Check("root", identity == 0, f"user id {identity}", "run as root, e.g. with sudo"),
        *(_tool(name, package=package) for name, package in tools.items()),
        _control_groups(),
    ]


def _tool(name: str, *, package: str) -> Check:
    found = shutil.which(name)
    remedy = f"apt-get install {package}"
    return Check(name, found is not None, found or "not found", remedy, package)


def _go() -> Check:
    remedy = f"install Go {_GO[0]}.{_GO[1]} or newer from https://go.dev/dl/ and put it on PATH"
    if shutil.which("go") is None:
        return Check("Go", False, "not found", remedy)
    found = subprocess.run(["go", "env", "GOVERSION"], capture_output=True, text=True, check=False)
    match = re.match(r"go(\d+)\.(\d+)", found.stdout)
    enough = match is not None and (int(match[1]), int(match[2])) >= _GO
    return Check("Go", enough, found.stdout.strip() or found.stderr.strip()[:80], remedy)


def _headers() -> Check:
    found = Path("/usr/include/seccomp.h").exists()
    package = "libseccomp-dev"
    shown = "seccomp.h" if found else "no seccomp.h"
    return Check("libseccomp", found, shown, f"apt-get install {package}", package)


def _control_groups() -> Check:
    mounts = Path("/proc/self/mountinfo")
    text = mounts.read_text() if mounts.exists() else ""
    version = 1 if " - cgroup " in text else 2 if " - cgroup2 " in text else 0
    writable = version > 0 and os.access("/sys/fs/cgroup", os.W_OK)
    shown = f"version {version}" if version else "not mounted"
    remedy = "mount the control group file system read-write on /sys/fs/cgroup"
    return Check("control groups", writable, shown, remedy)


def _space() -> Check:
    folder = paths.cache()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / 2**30
    remedy = f"free {_DISK_GIB} GiB, or set XDG_CACHE_HOME and GOCACHE to a larger disk"
    return Check("disk", free >= _DISK_GIB, f"{free:.0f} GiB free in {folder}", remedy)


def _memory() -> Check:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    remedy = f"use a machine with {_MEMORY_GIB} GiB or more"
    return Check("memory", total >= _MEMORY_GIB, f"{total:.0f} GiB", remedy)
