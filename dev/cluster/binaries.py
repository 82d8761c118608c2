"""Programs of the local cluster, built from pinned modules into the user's cache.

Each program is kept under a hash of what decides its content: a new program or a changed pin builds
that program alone. The folder of a set of pins links to them. Each program is renamed into place
when it is complete: an interrupted build goes on where it stopped.
"""

import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from dev import locks, paths
from dev.errors import DevError

KUBERNETES = "1.36.3"
LINKS = (
    "kube-apiserver",
    "kube-controller-manager",
    "kube-proxy",
    "kube-scheduler",
    "kubectl",
    "kubelet",
)
_PARALLEL = 2  # NB: the compiler uses every core, the linker only one; two builds fill the gaps.


@dataclass(frozen=True)
class Target:
    """Program: the folder of its module, the package in it and its build options."""

    name: str
    module: str
    package: str = "."
    tags: str = ""
    cgo: bool = False
    flags: str = ""

    def command(self, *, output: Path) -> list[str]:
        if self.module == "pause":
            return ["gcc", "-Os", "-static", "-s", "-o", str(output), "pause.c"]
        tags = ["-tags", self.tags] if self.tags else []
        build = ["go", "build", "-trimpath", "-buildvcs=false", "-mod=readonly", *tags]
        return [*build, "-ldflags", f"-s -w {self.flags}", "-o", str(output), self.package]


def _version_flags() -> str:
    # NB: without these the server calls itself v0.0.0-master, and clients refuse it.
    major, minor, _ = KUBERNETES.split(".")
    fields = {"Version": f"v{KUBERNETES}", "Major": major, "Minor": minor, "TreeState": "clean"}
    return " ".join(f"-X k8s.io/component-base/version.git{k}={v}" for k, v in fields.items())


_CONTAINERD = "github.com/containerd/containerd/v2/cmd"
_PLUGINS = "github.com/containernetworking/plugins/plugins"
TARGETS = (
    Target("kubernetes", "kubernetes", flags=_version_flags()),
    Target("etcd", "tools", "go.etcd.io/etcd/server/v3"),
    Target("containerd", "tools", f"{_CONTAINERD}/containerd"),
    Target("containerd-shim-runc-v2", "tools", f"{_CONTAINERD}/containerd-shim-runc-v2"),
    Target("ctr", "tools", f"{_CONTAINERD}/ctr"),
    Target("runc", "tools", "github.com/opencontainers/runc", tags="seccomp", cgo=True),
    Target("bridge", "tools", f"{_PLUGINS}/main/bridge"),
    Target("loopback", "tools", f"{_PLUGINS}/main/loopback"),
    Target("host-local", "tools", f"{_PLUGINS}/ipam/host-local"),
    Target("portmap", "tools", f"{_PLUGINS}/meta/portmap"),
    Target("pause", "pause"),
    Target("coredns", "coredns"),
    Target(
        "prometheus",
        "prometheus",
        "github.com/prometheus/prometheus/cmd/prometheus",
        tags="remove_all_sd,enable_kubernetes_sd",
    ),
    Target("kwok", "tools", "sigs.k8s.io/kwok/cmd/kwok"),
)
EXTRAS = (
    Target("epp", "epp", "sigs.k8s.io/gateway-api-inference-extension/cmd/epp"),
    Target("lws", "lws", "sigs.k8s.io/lws/cmd"),
    Target("registry", "registry", "github.com/distribution/distribution/v3/cmd/registry"),
)
"""Programs of some tests and benchmarks, built on first use."""
CONTROL_PLANE = frozenset({"kubernetes", "etcd"})
NODE = frozenset(target.name for target in TARGETS) - CONTROL_PLANE - {"kwok"}
FAKES = frozenset({"kwok"})
ALL = CONTROL_PLANE | NODE | FAKES

COSTS: Final = {
    "kubernetes": 706,
    "prometheus": 447,
    "kwok": 193,
    "coredns": 87,
    "containerd": 68,
    "etcd": 67,
}
"""Seconds that a build from nothing took beside another on two busy cores; for estimates only."""
CHEAP: Final = 5
"""Seconds of a program that shares all its packages with one of these."""

State = Literal["waiting", "building", "built", "failed"]
Report = Callable[[Target, State, float, int], None]


def folder() -> Path:
    """Return the folder of the present pins' programs, whether or not they are built yet."""
    modules = {target.module for target in TARGETS}
    return paths.cache() / "bin" / _digest(repr(TARGETS), modules=modules)


def _digest(recipe: str, *, modules: Collection[str]) -> str:
    digest = hashlib.sha256(recipe.encode())
    for file in sorted(paths.SOURCES.rglob("*")):
        if file.is_file() and file.relative_to(paths.SOURCES).parts[0] in modules:
            digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def extra(name: str, *, report: Report) -> Path:
    """Build the program of `EXTRAS` unless the cache has it, and return its path."""
    target = next(one for one in EXTRAS if one.name == name)
    digest = _digest(repr(target), modules={target.module})
    there = paths.cache() / "bin" / f"{name}-{digest}"
    program = there / name
    if not program.exists():
        with locks.held(there):
            if not program.exists():
                _build(target, there=there, report=report)
    return program


def _kept(target: Target) -> Path:
    """Return the path where a program is kept, whichever set of pins it is part of."""
    digest = hashlib.sha256(repr(target).encode())
    for file in sorted((paths.SOURCES / target.module).rglob("*")):
        if file.is_file():
            digest.update(file.name.encode() + file.read_bytes())
    return paths.cache() / "programs" / f"{target.name}-{digest.hexdigest()[:16]}"


def _place(target: Target, *, there: Path) -> None:
    """Hard-link the kept program into a folder, by rename: a caller that died leaves no half of it."""
    link = there / f".{target.name}.{os.getpid()}.link"
    link.unlink(missing_ok=True)
    link.hardlink_to(_kept(target))
    link.rename(there / target.name)


def missing(wanted: Iterable[str]) -> list[Target]:
    """Return the programs that are not built, in the order in which a cluster needs them."""
    there, names = folder(), set(wanted)
    return [t for t in TARGETS if t.name in names and not (there / t.name).exists()]


def build(wanted: Iterable[str], *, report: Report) -> Path:
    """Build what is missing and return the folder; a second caller waits for the first."""
    names = frozenset(wanted)
    there = folder()
    if not missing(names):
        return there
    with locks.held(there):
        _link(there)
        targets = missing(names)
        for target in targets:
            if not _kept(target).exists():
                report(target, "waiting", 0.0, 0)
        with ThreadPoolExecutor(_PARALLEL) as pool:
            tasks = [pool.submit(_build, target, there=there, report=report) for target in targets]
            try:
                for task in tasks:
                    task.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    return there


def _build(target: Target, *, there: Path, report: Report) -> None:
    compiler = target.command(output=there)[0]
    if shutil.which(compiler) is None:
        remedy = "run `python -m dev doctor`"
        raise DevError(f"building {target.name} needs {compiler}", remedy=remedy)
    if _kept(target).exists():
        _place(target, there=there)
        return
    begin = time.monotonic()
    report(target, "building", 0.0, 0)
    log = there / f"{target.name}.log"
    for stale in there.glob(f".{target.name}.*.partial"):
        stale.unlink()
    # NB: a compiler that outlived a killed caller may still write to the name of its own.
    partial = there / f".{target.name}.{os.getpid()}.partial"
    environment = os.environ | {"CGO_ENABLED": str(int(target.cgo)), "GOFLAGS": "", "GOWORK": "off"}
    with log.open("w") as output:
        code = subprocess.run(
            target.command(output=partial),
            cwd=paths.SOURCES / target.module,
            env=environment,
            stdout=output,
            stderr=output,
            check=False,
        ).returncode
    if code != 0:
        report(target, "failed", time.monotonic() - begin, 0)
        remedy = "run `python -m dev doctor`, then `python -m dev build`"
        raise DevError(f"building {target.name} failed", log=log, remedy=remedy)
    kept = _kept(target)
    kept.parent.mkdir(parents=True, exist_ok=True)
    partial.rename(kept)
    log.unlink()
    _place(target, there=there)
    report(target, "built", time.monotonic() - begin, (there / target.name).stat().st_size)


def _link(there: Path) -> None:
    """Link the Kubernetes binary under each component's name, and kubectl into a folder for the user's PATH."""
    (there / "cli").mkdir(exist_ok=True)
    links = {there / name: "kubernetes" for name in LINKS}
    links[there / "cli" / "kubectl"] = "../kubernetes"
    for link, target in links.items():
        if not link.is_symlink():
            link.symlink_to(target)
