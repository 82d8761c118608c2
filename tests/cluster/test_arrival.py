"""Objects may arrive in any order: what is missing is a condition, and heals when it comes."""

import copy

from dev.cluster.kube import Kube, condition, is_true
from tests.support import services

SOON = 20.0


def test_a_missing_profile_heals_when_it_comes(kube: Kube, namespace: str) -> None:
    profile = kube.get("ServingProfile", None, "local")
    assert profile is not None
    kube.delete("ServingProfile", None, "local")
    try:
        kube.apply(services.simulated(namespace, "chat"))
        waiting = kube.until(
            "InferenceService",
            namespace,
            lambda items: condition(items[0], "Accepted").get("reason") == "NoProfile" and items[0],
            name="chat",
            timeout=SOON,
        )
        assert (
            f"No ServingProfile selects namespace {namespace}"
            in (condition(waiting, "Accepted")["message"])
        )
    finally:
        again = copy.deepcopy(profile)
        again["metadata"] = {"name": "local"}
        kube.apply(again)
    services.ready(kube, namespace, "chat", timeout=SOON)


def test_pod_monitors_are_made_once_their_kind_exists(kube: Kube, namespace: str) -> None:
    kube.apply(services.simulated(namespace, "chat"))
    services.ready(kube, namespace, "chat", timeout=SOON)
    kube.apply(POD_MONITOR_CRD)
    try:
        kube.until(
            "CustomResourceDefinition",
            None,
            lambda items: is_true(items[0], "Established"),
            name=POD_MONITOR_CRD["metadata"]["name"],
            timeout=SOON,
        )
        kube.until("PodMonitor", namespace, bool, name="chat", timeout=SOON)
    finally:
        kube.delete("CustomResourceDefinition", None, POD_MONITOR_CRD["metadata"]["name"])


POD_MONITOR_CRD: dict = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "podmonitors.monitoring.coreos.com"},
    "spec": {
        "group": "monitoring.coreos.com",
        "scope": "Namespaced",
        "names": {
            "kind": "PodMonitor",
            "listKind": "PodMonitorList",
            "plural": "podmonitors",
            "singular": "podmonitor",
        },
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "x-kubernetes-preserve-unknown-fields": True,
                    }
                },
            }
        ],
    },
}
