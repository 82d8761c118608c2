"""Network of one cluster: a namespace, a veth pair and two routes.

A cluster has one /16 to itself, so the host reaches its API server, Services and pods directly and
two clusters never meet: kube-proxy's nftables table has a constant name in every cluster.
"""

import contextlib
import ipaddress
import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from dev import processes
from dev.errors import DevError

_FIRST, _COUNT = 96, 64


@dataclass(frozen=True)
class Network:
    """Addresses and names, all derived from the cluster's name and its index."""

    name: str
    index: int

    @property
    def _block(self) -> str:
        return f"10.{_FIRST + self.index}"

    @property
    def namespace(self) -> str:
        return f"slipstream-{self.name}"

    @property
    def interface(self) -> str:
        return f"slip{self.index}"

    @property
    def host(self) -> str:
        return f"{self._block}.0.1"

    @property
    def node(self) -> str:
        return f"{self._block}.0.2"

    @property
    def fakes(self) -> str:
        """Pod addresses of the nodes that kwok makes up; nothing routes them."""
        return f"{self._block}.32.1/19"

    @property
    def services(self) -> str:
        return f"{self._block}.64.0/18"

    @property
    def kubernetes(self) -> str:
        return f"{self._block}.64.1"

    @property
    def dns(self) -> str:
        return f"{self._block}.64.10"

    @property
    def pods(self) -> str:
        return f"{self._block}.128.0/17"

    def enter(self) -> list[str]:
        # NB: `ip netns exec` remounts /sys and so hides the control groups; the kubelet then exits.
        return ["nsenter", f"--net=/run/netns/{self.namespace}", "--"]


def free_index(*, taken: Collection[int]) -> int:
    """The lowest index whose addresses and interface nothing on this machine uses."""
    links = {link["ifname"] for link in json.loads(processes.run(["ip", "-j", "link"]))}
    routes = json.loads(processes.run(["ip", "-j", "-4", "route", "show", "table", "all"]))
    used = [
        ipaddress.ip_network(route["dst"], strict=False)
        for route in routes
        if route["dst"] != "default"
    ]
    # NB: a route to all of 10.0.0.0/8, as VPNs have it, yields to our narrower ones.
    narrow = [other for other in used if other.prefixlen > 8]
    for index in range(_COUNT):
        block = ipaddress.ip_network(f"10.{_FIRST + index}.0.0/16")
        free = index not in taken and f"slip{index}" not in links
        if free and not any(block.overlaps(other) for other in narrow):
            return index
    raise DevError(
        f"no free 10.x.0.0/16 between 10.{_FIRST} and 10.{_FIRST + _COUNT - 1}",
        remedy="take clusters down with `python -m dev down --name NAME`",
    )


def create(network: Network) -> None:
    """Make the namespace, join it to the host and route the cluster's addresses into it."""
    run, inside = processes.run, network.enter()
    run(["ip", "netns", "add", network.namespace])
    pair = ["type", "veth", "peer", "name", "eth0", "netns", network.namespace]
    run(["ip", "link", "add", network.interface, *pair])
    run(["ip", "link", "set", network.interface, "up", "alias", network.namespace])
    run(["ip", "address", "add", f"{network.host}/30", "dev", network.interface])
    for cidr in (network.services, network.pods):
        run(["ip", "route", "add", cidr, "via", network.node])
    script = f"""
        ip link set lo up && ip address add {network.node}/30 dev eth0 && ip link set eth0 up &&
        ip route add default via {network.host} && echo 1 > /proc/sys/net/ipv4/ip_forward"""
    run([*inside, "/bin/sh", "-c", script])


def exists(name: str) -> bool:
    return any(f"slipstream-{name}" == entry["name"] for entry in _namespaces())


def destroy(name: str) -> None:
    """Remove namespace and interface; the routes go with the interface."""
    namespace = f"slipstream-{name}"
    for link in json.loads(processes.run(["ip", "-j", "link"])):
        if link.get("ifalias") == namespace or _joins(link, namespace=namespace):
            with contextlib.suppress(DevError):  # NB: it may vanish with its namespace meanwhile.
                processes.run(["ip", "link", "delete", link["ifname"]])
    if exists(name):
        processes.run(["ip", "netns", "delete", namespace])


def tidy() -> None:
    """Remove the folder of namespaces, which `ip` makes and mounts, once the last one has gone."""
    folder = Path("/run/netns")
    if folder.is_dir() and not any(folder.iterdir()):
        with contextlib.suppress(DevError):  # NB: it is mounted on itself, or nothing is.
            processes.run(["umount", str(folder)])
        with contextlib.suppress(OSError):
            folder.rmdir()


def _joins(link: dict[str, object], *, namespace: str) -> bool:
    """Whether the interface's peer lies in the namespace: it had no time to get its alias."""
    ids = {entry["name"]: entry.get("id") for entry in _namespaces()}
    peer = link.get("link_netnsid")
    return (
        str(link["ifname"]).startswith("slip") and peer is not None and peer == ids.get(namespace)
    )


def _namespaces() -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(processes.run(["ip", "-j", "netns"]) or "[]")
    return found
