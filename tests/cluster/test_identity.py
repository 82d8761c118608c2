"""Pods, workloads and EndpointSlices with the labels of Slipstream's are refused to everybody else."""

import json
from typing import Any

import pytest

from dev.cluster.kube import Kube
from slipstream_runtime import contract
from tests.support import services

MALLORY = "mallory"
ENGINE = {
    "slipstream.dev/service": "chat",
    "slipstream.dev/revision": "0a1b2c3d",
    "app.kubernetes.io/managed-by": "slipstream-operator",
}
ROUTER = {"app.kubernetes.io/name": "slipstream", "app.kubernetes.io/component": "router"}
CONTAINERS = [
    {
        "name": "c",
        "image": "localhost/none",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
]


def _template(labels: dict[str, str], **spec: Any) -> dict[str, Any]:
    return {"metadata": {"labels": labels}, "spec": {"containers": CONTAINERS, **spec}}


def _pod(labels: dict[str, str], **spec: Any) -> dict[str, Any]:
    body = _template(labels, **spec)
    metadata = {"name": "theirs", **body["metadata"]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": body["spec"]}


def _workload(kind: str, labels: dict[str, str]) -> dict[str, Any]:
    wanted = {"app": "theirs", **labels}
    metadata = {"name": "theirs"}
    if kind in ("Job", "CronJob"):
        job = {"template": _template(wanted, restartPolicy="Never")}
        spec = job if kind == "Job" else {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": job}}
        return {"apiVersion": "batch/v1", "kind": kind, "metadata": metadata, "spec": spec}
    spec = {"selector": {"matchLabels": {"app": "theirs"}}, "template": _template(wanted)}
    if kind == "ReplicationController":
        spec["selector"] = {"app": "theirs"}
        return {"apiVersion": "v1", "kind": kind, "metadata": metadata, "spec": spec}
    if kind == "StatefulSet":
        spec["serviceName"] = "theirs"
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": metadata, "spec": spec}


def _slice(labels: dict[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "theirs", "labels": {"kubernetes.io/service-name": "a", **labels}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.1.2.3"]}],
    }


def _labels(*names: str) -> list[dict[str, str]]:
    return [{f"slipstream.dev/{name}": "chat"} for name in names]


KINDS = (
    "Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "Job", "CronJob",
    "ReplicationController",
)  # fmt: skip
OURS = {"app.kubernetes.io/managed-by": "slipstream-operator"}
REFUSED = [
    _pod(ENGINE),
    _pod(ROUTER),
    *(_pod(labels) for labels in _labels("worker-of", "picker", "fetch", "prefetch", "build")),
    *(_workload(kind, ENGINE) for kind in KINDS),
    *(_workload(kind, ROUTER) for kind in KINDS),
    _slice(OURS),
]
ADMITTED = [
    _pod({"app": "a", "app.kubernetes.io/name": "slipstream"}),
    *(_workload(kind, {"app.kubernetes.io/component": "router"}) for kind in KINDS),
    _slice({}),
]


@pytest.fixture
def mallory(kube: Kube, namespace: str) -> str:
    """Namespace in which this user may write all workloads and slices."""
    resources = [
        "pods", "replicationcontrollers", "deployments.apps", "replicasets.apps",
        "statefulsets.apps", "daemonsets.apps", "jobs.batch", "cronjobs.batch",
        "endpointslices.discovery.k8s.io",
    ]  # fmt: skip
    kube.kubectl(
        "create", "role", MALLORY, "-n", namespace, "--verb=create,update,patch,get",
        f"--resource={','.join(resources)}",
    )  # fmt: skip
    kube.kubectl(
        "create", "rolebinding", MALLORY, "-n", namespace, f"--role={MALLORY}", f"--user={MALLORY}"
    )
    return namespace


def _send(kube: Kube, namespace: str, verb: str, *arguments: str, stdin: str = "") -> str:
    return kube.kubectl(
        verb, "-n", namespace, f"--as={MALLORY}", *arguments, stdin=stdin, check=False
    )


def _create(kube: Kube, namespace: str, manifests: list[dict[str, Any]]) -> None:
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests})
    _send(kube, namespace, "create", "-f", "-", stdin=text)


def _made(kube: Kube, namespace: str) -> list[str]:
    kinds = ",".join((*KINDS, "Pod", "EndpointSlice"))
    found = kube.kubectl("get", kinds, "-n", namespace, "-o", "json")
    items = json.loads(found)["items"]
    return sorted(item["kind"] for item in items if item["metadata"]["name"] == "theirs")


def test_nobody_else_makes_pods_with_labels_of_slipstream(kube: Kube, mallory: str) -> None:
    _create(kube, mallory, REFUSED)
    assert _made(kube, mallory) == []
    _create(kube, mallory, ADMITTED)
    assert _made(kube, mallory) == sorted({one["kind"] for one in ADMITTED})

    for kind in ("pod", "deployment", "job"):
        _send(kube, mallory, "annotate", kind, "theirs", "note=kept")
    _send(kube, mallory, "label", "pod", "theirs", "slipstream.dev/service=chat", "team=kept")
    _send(kube, mallory, "label", "pod", "theirs", "team=kept")
    template = {"spec": {"template": {"metadata": {"labels": {"slipstream.dev/service": "chat"}}}}}
    _send(
        kube, mallory, "patch", "deployment", "theirs", "--type=merge", "-p", json.dumps(template)
    )
    _send(
        kube, mallory, "label", "endpointslice", "theirs",
        "app.kubernetes.io/managed-by=slipstream-operator",
    )  # fmt: skip
    pod, deployment, written = (
        json.loads(kube.kubectl("get", kind, "theirs", "-n", mallory, "-o", "json"))
        for kind in ("pod", "deployment", "endpointslice")
    )
    assert pod["metadata"]["labels"]["team"] == "kept"
    assert pod["metadata"]["annotations"]["note"] == "kept"
    assert deployment["metadata"]["annotations"]["note"] == "kept"
    assert "slipstream.dev/service" not in pod["metadata"]["labels"]
    assert "slipstream.dev/service" not in deployment["spec"]["template"]["metadata"]["labels"]
    assert "app.kubernetes.io/managed-by" not in written["metadata"]["labels"]


def test_nobody_else_runs_as_the_router_and_pods_of_services_can_be_annotated(
    kube: Kube, mallory: str
) -> None:
    kube.apply(services.simulated(mallory, "chat", routing={"mode": "Router"}))
    services.ready(kube, mallory, "chat")
    _create(kube, mallory, [_pod({"app": "a"}, serviceAccountName=contract.ROUTER_NAME)])
    assert kube.get("Pod", mallory, "theirs") is None
    (engine, *_) = kube.find("Pod", mallory, labelSelector="slipstream.dev/service=chat")
    name = engine["metadata"]["name"]
    _send(kube, mallory, "annotate", "pod", name, "note=kept")
    _send(kube, mallory, "label", "pod", name, "slipstream.dev/service=other", "--overwrite")
    found = kube.get("Pod", mallory, name)
    assert found is not None
    assert found["metadata"]["annotations"]["note"] == "kept"
    assert found["metadata"]["labels"]["slipstream.dev/service"] == "chat"
