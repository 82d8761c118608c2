"""Life of a local cluster: up, down and status, as tests use it.

    cluster = Cluster(name="mine")
    cluster.up()
    ...
    cluster.down()

A cluster keeps no state: an unhealthy cluster is taken down and booted again.
"""

import contextlib
import os
import re
import shutil
import signal as signals
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dev import locks, paths, waiting
from dev.cluster import binaries, cgroups, doctor, network, record
from dev.cluster.boot import Boot, Report
from dev.cluster.kube import Kube
from dev.cluster.layout import NODE, Layout
from dev.cluster.record import Record
from dev.errors import DevError

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,28}[a-z0-9])?")


@dataclass(frozen=True)
class ComponentStatus:
    """Present state of a component."""

    name: str
    pid: int
    alive: bool
    cpu_seconds: float
    memory_bytes: int
    log: str


@dataclass(frozen=True)
class Status:
    """Present state of a cluster."""

    name: str
    state: Literal["down", "healthy", "unhealthy"]
    server: str
    kubeconfig: str
    boot_seconds: float
    components: tuple[ComponentStatus, ...]


def _silent(_phase: str, _seconds: float) -> None: ...


def _quiet(_target: binaries.Target, _state: binaries.State, _seconds: float, _size: int) -> None:
    return None


class Cluster:
    """Cluster by its name; more than one can be up at once."""

    def __init__(self, *, name: str = "slipstream") -> None:
        if not _NAME.fullmatch(name):
            raise DevError(f"{name!r} is not a cluster name", remedy="use a-z, 0-9 and -, up to 30")
        self.name = name
        self.folder = paths.state() / name
        self.kubeconfig = self.folder / "kubeconfig"

    @property
    def kubectl(self) -> Path:
        return binaries.folder() / "cli" / "kubectl"

    @property
    def layout(self) -> Layout:
        found = record.load(self.folder)
        if found is None:
            remedy = f"python -m dev up --name {self.name}"
            raise DevError(f"cluster {self.name} is not up", remedy=remedy)
        return Layout.of(self.folder, name=self.name, record=found)

    def up(
        self,
        *,
        control_plane_only: bool = False,
        nodes: int = 0,
        report: Report = _silent,
        build_report: binaries.Report = _quiet,
    ) -> bool:
        """Boot the cluster; return False if it was healthy already.

        A healthy cluster can only gain kwok nodes; other changes are refused.
        """
        doctor.require()
        wanted = binaries.CONTROL_PLANE | (frozenset() if control_plane_only else binaries.NODE)
        there = binaries.build(
            wanted | (binaries.FAKES if nodes else frozenset()), report=build_report
        )
        with locks.held(self.folder):
            known = record.load(self.folder)
            if known is not None and self._healthy(known):
                self._grow(known, control_plane_only=control_plane_only, nodes=nodes, report=report)
                return False
            self._clear()
            fresh = self._claim(there)
            fresh.control_plane_only, fresh.nodes = control_plane_only, nodes
            layout = Layout.of(self.folder, name=self.name, record=fresh)
            Boot(layout, record=fresh, report=report).run()
        return True

    def down(self) -> bool:
        """Remove everything the cluster has on this machine; False if there was nothing."""
        if not (self.folder.exists() or cgroups.exists(self._group) or network.exists(self.name)):
            return False
        with locks.held(self.folder):
            self._clear()
            self.folder.rmdir()
        with locks.held(paths.state()):
            network.tidy()
        with contextlib.suppress(OSError):
            self.folder.parent.rmdir()
        return True

    def status(self) -> Status:
        """Read only from the record, /proc and the API server's readiness."""
        known = record.load(self.folder)
        if known is None:
            left = self.folder.exists() or cgroups.exists(self._group) or network.exists(self.name)
            return Status(self.name, "unhealthy" if left else "down", "", "", 0.0, ())
        layout = Layout.of(self.folder, name=self.name, record=known)
        rows = tuple(
            ComponentStatus(
                name=name,
                pid=process.pid,
                alive=process.alive,
                cpu_seconds=round(process.cpu, 1),
                memory_bytes=process.memory,
                log=str(layout.log(name)),
            )
            for name, process in known.components.items()
        )
        return Status(
            name=self.name,
            state="healthy" if self._healthy(known) else "unhealthy",
            server=layout.server,
            kubeconfig=str(self.kubeconfig),
            boot_seconds=max(known.phases.values(), default=0.0),
            components=rows,
        )

    def phases(self) -> dict[str, float]:
        """Return the time of each phase of the last boot, in seconds from its start."""
        known = record.load(self.folder)
        return known.phases if known else {}

    def kill(self, component: str, signal: int = signals.SIGKILL) -> None:
        """Send a signal to one component, to see what the others make of its death."""
        known = record.load(self.folder)
        process = known.components.get(component) if known else None
        if process is None or not process.alive:
            raise DevError(f"{component} of cluster {self.name} does not run")
        os.kill(process.pid, signal)
        if signal == signals.SIGKILL:
            waiting.until(lambda: not process.alive, seconds=10, what=f"{component} dying")

    def kill_container(self, container: str) -> None:
        """Send SIGKILL to all processes of a container, as the kernel does where memory runs out."""
        found = self.processes(container)
        if not found:
            raise DevError(f"cluster {self.name} has no container {container} that runs")
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signals.SIGKILL)

    def processes(self, container: str) -> set[int]:
        """Return the process ids of a container."""
        return cgroups.processes(self._group, container=container)

    @property
    def _group(self) -> str:
        return f"slipstream-{self.name}"

    def _healthy(self, known: Record) -> bool:
        if not known.booted or not all(one.alive for one in known.components.values()):
            return False
        try:
            with Kube.of(Layout.of(self.folder, name=self.name, record=known)) as kube:
                return kube.ready() and (
                    known.control_plane_only or kube.holds("Node", None, NODE, "Ready")
                )
        except (DevError, OSError):
            return False

    def _grow(self, known: Record, *, control_plane_only: bool, nodes: int, report: Report) -> None:
        if control_plane_only != known.control_plane_only:
            have = "no node" if known.control_plane_only else "a node"
            remedy = f"python -m dev down --name {self.name}"
            raise DevError(f"cluster {self.name} is up with {have}", remedy=remedy)
        if nodes > known.nodes:
            known.nodes = nodes
            layout = Layout.of(self.folder, name=self.name, record=known)
            with Kube.of(layout) as kube:
                Boot(layout, record=known, report=report).fakes(kube)
            known.save(self.folder)

    def _claim(self, there: Path) -> Record:
        """Take the lowest free index; the interface made under the lock holds it from then on."""
        with locks.held(paths.state()):
            others = [record.load(folder) for folder in paths.state().iterdir()]
            index = network.free_index(taken={one.index for one in others if one})
            fresh = Record(index=index, binaries=str(there))
            fresh.save(self.folder)
            network.create(network.Network(name=self.name, index=index))
        return fresh

    def _clear(self) -> None:
        cgroups.destroy(self._group)
        network.destroy(self.name)

        def empty() -> bool:
            # NB: a mount in the cluster's own namespace pins its folder until that has died.
            for entry in self.folder.iterdir():
                if entry.is_dir() and not entry.is_symlink():
                    shutil.rmtree(entry, ignore_errors=True)
                else:
                    entry.unlink(missing_ok=True)
            return not any(self.folder.iterdir())

        waiting.until(empty, seconds=30, what=f"emptying {self.folder}")
