"""Boot of a cluster, from an empty folder to Ready, with as much as possible in parallel."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from dev import processes, waiting
from dev.cluster import addons, cgroups, components, fleet, images, node
from dev.cluster.kube import Kube
from dev.cluster.layout import NODE, Layout
from dev.cluster.record import Record
from dev.errors import DevError

Report = Callable[[str, float], None]


class Boot:
    """Boot that starts components, records each at once, and notes the time of each phase."""

    def __init__(self, layout: Layout, *, record: Record, report: Report) -> None:
        self._layout = layout
        self._record = record
        self._report = report
        self._groups: Sequence[Path] = ()
        self._saving = threading.Lock()
        self._begin = time.monotonic()

    def run(self) -> None:
        """Boot the cluster; after a failure, everything stays for inspection."""
        record, layout = self._record, self._layout
        self._prepare()
        self._start("etcd")
        self._start("kube-apiserver")
        self._phase("prepared")
        with ThreadPoolExecutor(1) as pool:
            loading = None if record.control_plane_only else pool.submit(self._runtime)
            with Kube.of(layout) as kube:
                self._until(kube.ready, what="the API server becoming ready")
                self._phase("API server ready")
                self._start("kube-controller-manager")
                self._start("kube-scheduler")
                if loading is not None:
                    loaded = loading.result()
                    self._phase("images loaded")
                    self._node(kube, loaded=loaded)
                self.fakes(kube)
        record.booted = True
        record.save(layout.folder)

    def fakes(self, kube: Kube) -> None:
        """Create kwok nodes up to the number in the record."""
        if self._record.nodes == 0:
            return
        if "kwok" not in self._record.components:
            fleet.configure(self._layout)
            fleet.allow(kube)
            self._start("kwok")
        fleet.ensure(kube, count=self._record.nodes, layout=self._layout)
        self._phase(f"{self._record.nodes} kwok nodes ready")

    def _prepare(self) -> None:
        for folder in ("etc", "log"):
            (self._layout.folder / folder).mkdir()
        self._groups = cgroups.create(self._layout.cgroup)
        components.credentials(self._layout)

    def _runtime(self) -> Sequence[images.Image]:
        """Start containerd and give it the images it cannot pull."""
        layout = self._layout
        wanted = images.addons(layout.binaries)
        node.configure(layout, pause=wanted[0].name)
        self._start("containerd", within=[*node.enclose(), str(node.mounts(layout))])
        self._until(layout.containerd_socket.exists, what="containerd listening", of="containerd")
        images.load(wanted, layout=layout)
        return wanted

    def _node(self, kube: Kube, *, loaded: Sequence[images.Image]) -> None:
        containerd = self._record.components["containerd"]
        self._start("kubelet", within=node.join(containerd.pid))
        self._start("kube-proxy")
        addons.apply(kube, layout=self._layout, images=loaded)
        self._until(
            lambda: kube.holds("Node", None, NODE, "Ready"), what="node Ready", of="kubelet"
        )
        self._phase("node ready")
        addons.wait(kube, layout=self._layout)
        self._phase("CoreDNS and Prometheus ready")

    def _start(self, component: str, *, within: Sequence[str] = ()) -> None:
        layout = self._layout
        command = [*layout.network.enter(), *within, *components.command(component, layout)]
        groups = self._groups or cgroups.create(layout.cgroup)
        started = processes.spawn(
            command, groups=groups, log=layout.log(component), cwd=layout.folder
        )
        with self._saving:
            self._record.components[component] = started
            self._record.save(layout.folder)

    def _until(
        self, condition: Callable[[], bool], *, what: str, of: str = "kube-apiserver"
    ) -> None:
        def holds() -> bool:
            for name, process in list(self._record.components.items()):
                if not process.alive:
                    raise DevError(f"{name} has died", log=self._layout.log(name))
            return condition()

        waiting.until(holds, seconds=90, what=what, log=self._layout.log(of))

    def _phase(self, name: str) -> None:
        seconds = time.monotonic() - self._begin
        self._record.phases[name] = round(seconds, 2)
        self._report(name, seconds)
