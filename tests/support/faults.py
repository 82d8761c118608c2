"""What tests and benchmarks do to the cluster's own parts."""

import contextlib
from collections.abc import Iterator
from typing import Final

from dev.cluster.kube import Kube, is_true

SYSTEM: Final = "slipstream-system"
MONITORING: Final = "monitoring"
OPERATOR: Final = "app.kubernetes.io/name=slipstream-operator"
PROMETHEUS: Final = "app=prometheus"


def restart_operator(kube: Kube) -> None:
    """Kill all its pods and wait until one of the new ones leads."""
    old = _kill(kube, SYSTEM, OPERATOR)
    kube.until(
        "Lease",
        SYSTEM,
        lambda leases: leases and leases[0]["spec"].get("holderIdentity") not in {None, "", *old},
        name="slipstream-operator",
        timeout=90,
        what="another operator leading",
    )


@contextlib.contextmanager
def without_prometheus(kube: Kube) -> Iterator[None]:
    """Kill its pod, with all that it has stored, and let no other one follow until the block ends."""
    kube.patch("Deployment", MONITORING, "prometheus", {"spec": {"replicas": 0}})
    _kill(kube, MONITORING, PROMETHEUS)
    try:
        yield
    finally:
        kube.patch("Deployment", MONITORING, "prometheus", {"spec": {"replicas": 1}})
        kube.until(
            "Pod",
            MONITORING,
            lambda pods: any(is_true(pod, "Ready") for pod in pods),
            labels=PROMETHEUS,
            timeout=60,
            what="Prometheus",
        )


def _kill(kube: Kube, namespace: str, labels: str) -> set[str]:
    names = {pod["metadata"]["name"] for pod in kube.find("Pod", namespace, labelSelector=labels)}
    for name in names:
        kube.delete("Pod", namespace, name, gracePeriodSeconds=0)
    return names
