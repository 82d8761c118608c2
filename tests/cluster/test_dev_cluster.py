"""The local cluster itself: it mends itself after a crash, and it leaves nothing on the machine."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from dev.cluster.lifecycle import Cluster
from dev.errors import DevError

NAME = "dev-test"


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    made = Cluster(name=NAME)
    made.down()
    yield made
    made.down()


def _traces() -> set[str]:
    """Everything on the machine that bears the cluster's name."""
    links = json.loads(subprocess.check_output(["ip", "-j", "link"]))
    found = {f"link {link['ifname']}" for link in links if link.get("ifalias", "").endswith(NAME)}
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    found |= {f"mount {line}" for line in mounts if NAME in line}
    found |= {f"group {path}" for path in Path("/sys/fs/cgroup").glob(f"**/slipstream-{NAME}")}
    found |= {f"namespace {path}" for path in Path("/run/netns").glob(f"*{NAME}")}
    for commandline in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = commandline.read_text(errors="replace")
        except OSError:
            continue
        if f"/{NAME}/" in text:
            found.add(f"process {text}")
    return found


def test_a_cluster_recovers_from_a_killed_component(cluster: Cluster) -> None:
    assert cluster.up(control_plane_only=True)
    assert cluster.status().state == "healthy"
    assert not cluster.up(control_plane_only=True), "a healthy cluster is left alone"

    cluster.kill("kube-apiserver")
    assert cluster.status().state == "unhealthy"
    assert cluster.up(control_plane_only=True)
    assert cluster.status().state == "healthy"


def test_a_cluster_leaves_nothing_behind(cluster: Cluster) -> None:
    cluster.up(control_plane_only=True)
    assert _traces()
    cluster.kill("etcd")
    (cluster.folder / "cluster.json").unlink()

    assert cluster.down()

    assert _traces() == set()
    assert not cluster.folder.exists()
    assert cluster.status().state == "down"
    assert not cluster.down()


def test_made_up_nodes_offer_gpus(cluster: Cluster) -> None:
    cluster.up(control_plane_only=True, nodes=3)
    kubectl = [str(cluster.kubectl), "--kubeconfig", str(cluster.kubeconfig)]
    output = subprocess.check_output([*kubectl, "get", "nodes", "--output", "json"])
    gpus = [node["status"]["allocatable"]["nvidia.com/gpu"] for node in json.loads(output)["items"]]
    assert gpus == ["8", "8", "8"]


def test_a_name_that_is_no_name_is_refused() -> None:
    with pytest.raises(DevError, match="not a cluster name"):
        Cluster(name="../elsewhere")
