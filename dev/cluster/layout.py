"""Files and addresses of one cluster, which its components share."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from dev.cluster.network import Network
from dev.cluster.record import Record

NODE = "local"
PORT = 6443


@dataclass(frozen=True)
class Layout:
    """Paths in the cluster's folder, which is removed with the cluster."""

    folder: Path
    binaries: Path
    network: Network
    cgroup: str

    @classmethod
    def of(cls, folder: Path, *, name: str, record: Record) -> Self:
        """Return the layout, which follows from the cluster's name and record."""
        network = Network(name=name, index=record.index)
        binaries = Path(record.binaries)
        return cls(folder=folder, binaries=binaries, network=network, cgroup=f"slipstream-{name}")

    @property
    def server(self) -> str:
        return f"https://{self.network.node}:{PORT}"

    @property
    def pki(self) -> Path:
        return self.folder / "pki"

    @property
    def kubeconfig(self) -> Path:
        return self.folder / "kubeconfig"

    @property
    def containerd_socket(self) -> Path:
        return self.folder / "containerd.sock"

    @property
    def builder(self) -> Path:
        """Environment of builds: an empty folder until it is needed."""
        return self.folder / "builder"

    def log(self, component: str) -> Path:
        return self.folder / "log" / f"{component}.log"

    def identity(self, user: str) -> Path:
        """Return the kubeconfig file of a component."""
        return self.folder / "etc" / f"{user}.kubeconfig"

    def config(self, file: str) -> Path:
        return self.folder / "etc" / file
