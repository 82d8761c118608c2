"""An operator for named namespaces runs their services, and has rights in these alone."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from dev import paths, processes
from dev.cluster.kube import Kube, condition, documents
from dev.cluster.lifecycle import Cluster
from tests.support import services

OVERLAY = paths.REPOSITORY / "manifests/overlays/namespaced"
ACCOUNT = "system:serviceaccount:slipstream-system:slipstream-operator"
NAMED = ("team-a", "team-b")
OTHER = "team-c"
SOON = 30.0


@pytest.fixture(scope="module")
def manifests(cluster: Cluster) -> list[dict[str, Any]]:
    rendered = processes.run([cluster.kubectl, "kustomize", OVERLAY])
    return [dict(one) for one in documents(rendered)]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """An API server without nodes, whose operator is a process of this machine."""
    made = Cluster(name="named-test")
    made.down()
    made.up(control_plane_only=True)
    yield made
    made.down()


@pytest.fixture(scope="module")
def kube(cluster: Cluster, manifests: list[dict[str, Any]]) -> Iterator[Kube]:
    """The overlay as it is applied, and one service in each namespace."""
    with Kube(cluster.kubeconfig, cluster.kubectl) as kube:
        for name in (*NAMED, OTHER):
            kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        definitions = [one for one in manifests if one["kind"] == "CustomResourceDefinition"]
        kube.apply_all(definitions)
        for one in definitions:
            kube.until(
                one["kind"],
                None,
                lambda items: condition(items[0], "Established").get("status") == "True",
                name=one["metadata"]["name"],
                timeout=SOON,
            )
        kube.apply_all(one for one in manifests if one["kind"] != "CustomResourceDefinition")
        profile = yaml.safe_load(
            (paths.REPOSITORY / "manifests/overlays/local/profile.yaml").read_text()
        )
        kube.apply(profile)
        for name in (OTHER, *NAMED):
            kube.apply(services.simulated(name, "chat", routing={"mode": "Router"}))
        yield kube


@pytest.fixture(scope="module")
def operator(
    cluster: Cluster,
    kube: Kube,
    manifests: list[dict[str, Any]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Path]:
    """The log of an operator with the environment of the overlay and the token of its account."""
    folder = tmp_path_factory.mktemp("operator")
    token = kube.kubectl("create", "token", "slipstream-operator", "-n", "slipstream-system")
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": token.strip()}
    (folder / "kubeconfig").write_text(yaml.safe_dump(config))
    (deployment,) = (one for one in manifests if one["kind"] == "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    given = {one["name"]: one["value"] for one in container["env"] if "value" in one}
    environment = {
        **os.environ,
        **given,
        "KUBECONFIG": str(folder / "kubeconfig"),
        "POD_NAME": "operator",
        "POD_NAMESPACE": "slipstream-system",
        "SLIPSTREAM_PORT": str(_free_port()),
    }
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "slipstream_operator"], env=environment, stdout=log, stderr=log
        )
    try:
        yield folder / "log"
    finally:
        process.terminate()
        process.wait()


def test_it_runs_the_services_of_its_namespaces_and_no_others(kube: Kube, operator: Path) -> None:
    for namespace in NAMED:
        kube.until(
            "InferenceService",
            namespace,
            lambda items: condition(items[0], "Accepted").get("status") == "True",
            timeout=SOON,
            what=operator.read_text()[-3000:],
        )
        kube.until(
            "Deployment",
            namespace,
            lambda items: {"slipstream-router"} < {one["metadata"]["name"] for one in items},
            timeout=SOON,
            what=operator.read_text()[-3000:],
        )
    (other,) = kube.find("InferenceService", OTHER)
    assert not condition(other, "Accepted"), "it was applied before the others"
    assert not kube.find("Deployment", OTHER)


def test_a_change_of_a_service_reaches_it(kube: Kube, operator: Path) -> None:
    kube.patch("InferenceService", NAMED[0], "chat", {"spec": {"replicas": 3}})
    kube.until(
        "Deployment",
        NAMED[0],
        lambda items: 3 in {one["spec"]["replicas"] for one in items},
        timeout=SOON,
        what=operator.read_text()[-3000:],
    )
    kube.delete("InferenceService", NAMED[1], "chat")
    kube.until(
        "InferenceService", NAMED[1], lambda items: not items, timeout=SOON, what="the deletion"
    )


def test_nothing_that_it_did_was_refused(operator: Path) -> None:
    """Runs after the others: it reads what they caused."""
    lines = [json.loads(line) for line in operator.read_text().splitlines() if line.startswith("{")]
    assert any(line["message"] == "leading" for line in lines)
    refused = [line for line in lines if "forbidden" in json.dumps(line).lower()]
    assert not refused


RIGHTS = [
    ("create", "deployments.apps", NAMED[0], True),
    ("create", "deployments.apps", OTHER, False),
    ("create", "deployments.apps", "kube-system", False),
    ("patch", "configmaps", NAMED[1], True),
    ("patch", "configmap/coredns", "kube-system", False),
    ("delete", "service/kubernetes", "default", False),
    ("patch", "lease/kube-controller-manager", "kube-system", False),
    ("delete", "serviceaccounts", OTHER, False),
    ("get", "secret/slipstream-router-token", OTHER, False),
    ("list", "secrets", NAMED[0], False),
    ("list", "pods", OTHER, False),
    ("list", "inferenceservices.slipstream.dev", OTHER, False),
    ("list", "servingprofiles.slipstream.dev", OTHER, True),
    ("patch", "servingprofiles.slipstream.dev", OTHER, False),
    ("list", "namespaces", OTHER, True),
    ("update", "lease/slipstream-operator", "slipstream-system", True),
]


@pytest.mark.parametrize(("verb", "resource", "namespace", "allowed"), RIGHTS)
def test_it_has_rights_in_its_namespaces_alone(
    kube: Kube, verb: str, resource: str, namespace: str, allowed: bool
) -> None:
    answer = kube.kubectl(
        "auth", "can-i", verb, resource, "-n", namespace, f"--as={ACCOUNT}", check=False
    )
    assert answer.strip() == ("yes" if allowed else "no")


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port
