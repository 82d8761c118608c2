"""Two operators, one leads; losing the leader loses nothing and changes nothing."""

import datetime

from dev.cluster.kube import Kube, condition, is_true
from dev.cluster.lifecycle import Cluster
from tests.support import services

SYSTEM = "slipstream-system"
LABELS = "app.kubernetes.io/name=slipstream-operator"
FAIL_OVER = datetime.timedelta(seconds=20)


def lease(kube: Kube) -> dict[str, str]:
    found = kube.get("Lease", SYSTEM, "slipstream-operator")
    assert found is not None
    spec: dict[str, str] = found["spec"]
    return spec


def leader(kube: Kube) -> str:
    return lease(kube)["holderIdentity"]


def two_operators_ready(kube: Kube) -> None:
    kube.until(
        "Pod",
        SYSTEM,
        lambda pods: (
            sum(
                condition(pod, "Ready").get("status") == "True"
                and "deletionTimestamp" not in pod["metadata"]
                for pod in pods
            )
            == 2
        ),
        labels=LABELS,
        timeout=60,
    )


def test_a_killed_leader_is_followed_within_20_seconds_and_nothing_changes(
    cluster: Cluster, kube: Kube, namespace: str
) -> None:
    two_operators_ready(kube)
    for index in range(5):
        kube.apply(services.simulated(namespace, f"chat-{index}"))
    settled = kube.until(
        "InferenceService",
        namespace,
        lambda items: len(items) == 5 and all(is_true(item, "Ready") for item in items) and items,
        timeout=30,
    )
    assert len(settled) == 5
    before = {
        item["metadata"]["name"]: item["metadata"]["generation"]
        for item in kube.find("Deployment", namespace)
    }
    old = leader(kube)
    pod = kube.get("Pod", SYSTEM, old)
    assert pod is not None
    container = pod["status"]["containerStatuses"][0]["containerID"].removeprefix("containerd://")
    # NB: SIGTERM, which a deleted pod gets, would have it release the Lease.
    cluster.kill_container(container)
    kube.delete("Pod", SYSTEM, old, gracePeriodSeconds=0)
    last = lease(kube)
    kube.apply(services.simulated(namespace, "while-nobody-led"))
    services.ready(kube, namespace, "while-nobody-led", timeout=60)
    assert leader(kube) != old == last["holderIdentity"]
    acquired, renewed = lease(kube)["acquireTime"], last["renewTime"]
    took = datetime.datetime.fromisoformat(acquired) - datetime.datetime.fromisoformat(renewed)
    assert took < FAIL_OVER
    after = {
        item["metadata"]["name"]: item["metadata"]["generation"]
        for item in kube.find("Deployment", namespace)
    }
    assert {name: after[name] for name in before} == before
    two_operators_ready(kube)


def test_an_object_is_deleted_with_the_operator_down(kube: Kube, namespace: str) -> None:
    kube.apply(services.simulated(namespace, "chat"))
    services.ready(kube, namespace, "chat", timeout=30)
    kube.kubectl("scale", "deployment/slipstream-operator", "-n", SYSTEM, "--replicas=0")
    try:
        kube.until("Pod", SYSTEM, lambda pods: not pods, labels=LABELS, timeout=60)
        kube.delete("InferenceService", namespace, "chat")
        for kind in ("Deployment", "Service", "ConfigMap", "Pod"):
            kube.until(
                kind,
                namespace,
                lambda items: not items,
                labels="slipstream.dev/service=chat",
                timeout=30,
            )
    finally:
        kube.kubectl("scale", "deployment/slipstream-operator", "-n", SYSTEM, "--replicas=2")
        two_operators_ready(kube)
