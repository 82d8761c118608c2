"""Whoever takes over the operator's account can't touch objects of others, on a real API server."""

import json
from typing import Any

import pytest

from dev.cluster.kube import Kube, Refused

OPERATOR = "system:serviceaccount:slipstream-system:slipstream-operator"
OURS = {"app.kubernetes.io/managed-by": "slipstream-operator"}


def config_map(namespace: str, name: str = "notes", **labels: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace, "labels": labels}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}


def deployment(namespace: str, **pod: Any) -> dict[str, Any]:
    selector = {"app": "taken"}
    container = {"name": "c", "image": "i", **pod.pop("container", {})}
    template = {"metadata": {"labels": selector}, "spec": {"containers": [container], **pod}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "taken", "namespace": namespace, "labels": OURS},
        "spec": {"replicas": 0, "selector": {"matchLabels": selector}, "template": template},
    }


def as_operator(kube: Kube, *arguments: str, manifest: dict[str, Any] | None = None) -> str:
    stdin = json.dumps(manifest) if manifest else None
    return kube.kubectl(*arguments, f"--as={OPERATOR}", stdin=stdin)


def apply(kube: Kube, manifest: dict[str, Any]) -> str:
    return as_operator(kube, "apply", "--server-side", "-f", "-", manifest=manifest)


def patch(kube: Kube, kind: str, namespace: str, name: str, change: dict[str, Any]) -> str:
    text = json.dumps(change)
    return as_operator(kube, "patch", kind, name, "-n", namespace, "--type=merge", "-p", text)


def test_it_writes_objects_with_its_label(kube: Kube, namespace: str) -> None:
    apply(kube, config_map(namespace, **OURS))
    patch(kube, "configmap", namespace, "notes", {"data": {"a": "b"}})
    as_operator(kube, "delete", "configmap", "notes", "-n", namespace)
    apply(kube, deployment(namespace))


def test_it_writes_no_object_without_its_label(kube: Kube, namespace: str) -> None:
    kube.apply(config_map(namespace))
    with pytest.raises(Refused, match="may not CREATE configmaps"):
        apply(kube, config_map(namespace, "another"))
    for change in ({"data": {"a": "b"}}, {"metadata": {"labels": OURS}}):
        with pytest.raises(Refused, match="may not UPDATE configmaps"):
            patch(kube, "configmap", namespace, "notes", change)
    with pytest.raises(Refused, match="may not DELETE configmaps"):
        as_operator(kube, "delete", "configmap", "notes", "-n", namespace)
    with pytest.raises(Refused, match="may not DELETE serviceaccounts"):
        as_operator(kube, "delete", "serviceaccount", "default", "-n", namespace)
    with pytest.raises(Refused, match="may not DELETE services"):
        as_operator(kube, "delete", "service", "kubernetes", "-n", "default")
    apply(kube, config_map(namespace, "own", **OURS))
    with pytest.raises(Refused, match="may not UPDATE configmaps"):
        patch(kube, "configmap", namespace, "own", {"metadata": {"labels": None}})


def test_it_writes_nothing_in_namespaces_of_the_cluster(kube: Kube) -> None:
    with pytest.raises(Refused, match="which belongs to the cluster"):
        apply(kube, config_map("kube-system", **OURS))
    with pytest.raises(Refused, match="which belongs to the cluster"):
        apply(kube, deployment("kube-system"))


@pytest.mark.parametrize(
    "pod",
    [
        {"hostNetwork": True},
        {"hostPID": True},
        {"hostIPC": True},
        {"container": {"securityContext": {"privileged": True}}},
        {"initContainers": [{"name": "a", "image": "b", "securityContext": {"privileged": True}}]},
    ],
    ids=str,
)
def test_its_pods_have_no_rights_on_their_node(
    kube: Kube, namespace: str, pod: dict[str, Any]
) -> None:
    with pytest.raises(Refused, match="may not create pods that are privileged"):
        apply(kube, deployment(namespace, **pod))


def test_it_renews_no_lease_but_its_own(kube: Kube, namespace: str) -> None:
    def lease(where: str, name: str) -> dict[str, Any]:
        metadata = {"name": name, "namespace": where}
        return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata}

    kube.apply(lease(namespace, "scheduler"))
    with pytest.raises(Refused, match="may not UPDATE leases"):
        patch(kube, "lease", namespace, "scheduler", {"spec": {"holderIdentity": "x"}})
    with pytest.raises(Refused, match="may not CREATE leases"):
        apply(kube, lease(namespace, "slipstream-operator"))
