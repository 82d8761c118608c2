"""Configuration of the real node: containerd with its two runtime handlers, CNI and the kubelet.

Restricted pod security forbids hostPath volumes, and an image with PyTorch in it takes minutes to
import. So a second handler gives its containers the machine's Python environment read-only, the
way a GPU node's runtime gives them the driver.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import Any

import yaml

from dev import paths, processes
from dev.cluster.layout import Layout
from dev.errors import DevError

_SYSCTLS = (  # what the kubelet sets for the whole machine
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)


def configure(layout: Layout, *, pause: str) -> None:
    """Write every configuration file of the node."""
    network = layout.folder / "cni" / "net.d"
    network.mkdir(parents=True)
    (network / "10-pods.conflist").write_text(json.dumps(_cni(layout)))
    layout.config("resolv.conf").write_text("")
    layout.config("kubelet.yaml").write_text(yaml.safe_dump(_kubelet(layout)))
    layout.config("kube-proxy.yaml").write_text(yaml.safe_dump(_proxy(layout)))
    layout.config("runtime.json").write_text(json.dumps(_runtime_spec(layout)))
    template = Template((paths.MANIFESTS / "containerd.toml").read_text())
    names = {"state": layout.folder, "binaries": layout.binaries, "pause": pause}
    layout.config("containerd.toml").write_text(template.substitute(names))
    _private_mounts(layout)


def enclose() -> list[str]:
    """Run the first command of the node in a mount namespace that containerd and kubelet share."""
    return ["unshare", "--mount", "--", "/bin/sh", "-c", '. "$0" && exec "$@"']


def join(pid: int) -> list[str]:
    return ["nsenter", f"--mount=/proc/{pid}/ns/mnt", "--"]


def mounts(layout: Layout) -> Path:
    return layout.config("mounts.sh")


def _private_mounts(layout: Layout) -> None:
    """Write the script that makes the namespace's own mounts.

    It hides the fixed paths that kubelet and containerd write to whatever their configuration, and
    the machine's kernel settings that the kubelet changes: neither is left behind, or shared.
    """
    search = f"export PATH='{layout.binaries}':\"$PATH\""  # NB: the shim looks for runc there.
    lines = [search, "mount --make-rshared /"]
    hidden = [Path(path).resolve() for path in ("/run", "/var/lib", "/var/log")]
    for folder in hidden:
        for mine in (layout.folder, layout.binaries, paths.REPOSITORY):
            if mine.is_relative_to(folder):
                remedy = "set XDG_STATE_HOME and XDG_CACHE_HOME to folders elsewhere"
                raise DevError(f"{mine} must not lie under {folder}", remedy=remedy)
        lines.append(f"mount -t tmpfs -o mode=755,size=64m tmpfs {folder}")
    settings = layout.folder / "sysctl"
    settings.mkdir()
    for name in _SYSCTLS:
        real, fake = Path("/proc/sys", name), settings / name.replace("/", ".")
        if real.exists():
            fake.write_text(real.read_text())
            lines.append(f"mount --bind '{fake}' {real}")
    mounts(layout).write_text(" &&\n".join(lines) + "\n")


def _cni(layout: Layout) -> Mapping[str, object]:
    addresses = {
        "type": "host-local",
        "dataDir": str(layout.folder / "cni" / "addresses"),
        "ranges": [[{"subnet": layout.network.pods}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "ipMasq": True,
        "ipMasqBackend": "nftables",
        "hairpinMode": True,
        "ipam": addresses,
    }
    ports = {"type": "portmap", "backend": "nftables", "capabilities": {"portMappings": True}}
    return {"cniVersion": "1.0.0", "name": "pods", "plugins": [bridge, ports]}


def _kubelet(layout: Layout) -> Mapping[str, object]:
    pki = layout.pki
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "failCgroupV1": False,
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{layout.cgroup}",
        # NB: so often files of ConfigMaps and Secrets are renewed; the default is a minute.
        "syncFrequency": "10s",
        # NB: so often volumes are measured, for evictions; the default is a minute.
        "volumeStatsAggPeriod": "10s",
        "cpuManagerPolicy": "none",
        # NB: raising either needs CAP_SYS_RESOURCE, which containers and sandboxes often lack.
        "oomScoreAdj": 0,
        "maxOpenFiles": 20000,
        # NB: a collected image could not be pulled again.
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "evictionHard": {
            "memory.available": "100Mi",
            "nodefs.available": "1%",
            "imagefs.available": "1%",
            "nodefs.inodesFree": "1%",
        },
        "clusterDNS": [layout.network.dns],
        "clusterDomain": "cluster.local",
        "resolvConf": str(layout.config("resolv.conf")),
        "containerRuntimeEndpoint": f"unix://{layout.containerd_socket}",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": f"{pki}/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": f"{pki}/kubelet.crt",
        "tlsPrivateKeyFile": f"{pki}/kubelet.key",
        "failSwapOn": False,
        "maxPods": 250,
        "podLogsDir": str(layout.folder / "pods"),
        "volumePluginDir": str(layout.folder / "volume-plugins"),
        "containerLogMaxSize": "10Mi",
        "containerLogMaxFiles": 2,
    }


def _proxy(layout: Layout) -> Mapping[str, object]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "nftables": {"minSyncPeriod": "100ms"},
        "clusterCIDR": layout.network.pods,
        "clientConnection": {"kubeconfig": str(layout.identity("kube-proxy"))},
        # NB: these limits belong to the whole machine; 0 leaves them alone.
        "conntrack": {
            "maxPerCore": 0,
            "min": 0,
            "tcpEstablishedTimeout": "0s",
            "tcpCloseWaitTimeout": "0s",
        },
    }


def _runtime_spec(layout: Layout) -> Mapping[str, object]:
    """The base of every container of the handler `slipstream-local`."""
    ctr = str(layout.binaries / "ctr")
    spec: dict[str, Any] = json.loads(processes.run([ctr, "oci", "spec"]))
    del spec["process"]["rlimits"]  # NB: 1024 open files; the other handler sets no limit either.
    venv = paths.REPOSITORY / ".venv"
    python = venv / "bin" / "python"
    if not python.exists():
        remedy = "create the virtual environment as the README says, in .venv"
        raise DevError(f"{venv} has no Python", remedy=remedy)
    paths.MODELS.mkdir(exist_ok=True)
    layout.builder.mkdir()
    binds = {
        "/usr": Path("/usr"),
        "/opt/slipstream/venv": venv,
        "/opt/slipstream/builder": layout.builder,
        "/models": paths.MODELS,
    }
    interpreter = python.resolve().parents[1]
    if not interpreter.is_relative_to("/usr"):
        binds[str(interpreter)] = interpreter
    for target, source in binds.items():
        options = ["rbind", "ro", "nosuid", "nodev"]
        mount = {"destination": target, "type": "bind", "source": os.fspath(source)}
        spec["mounts"].append(mount | {"options": options})
    return spec
