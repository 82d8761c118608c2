"""Losses of pods on a real API server: waits for the engines, and for what the status reports about them."""

from dev.cluster.kube import Kube, Object

UNBOUND = "none"
"""Name of a scheduler that does not run, so that the test binds the pods."""


def unbound(kube: Kube, namespace: str) -> str:
    """Wait for an engine that waits for a node; return its name."""

    def found(items: list[Object]) -> str | None:
        names = [
            item["metadata"]["name"]
            for item in items
            if item["status"]["phase"] == "Pending"
            and not item["spec"].get("nodeName")
            and item["spec"].get("schedulerName") == UNBOUND
        ]
        return names[0] if names else None

    name: str = kube.until("Pod", namespace, found, timeout=60, what="an unbound engine")
    return name


def settled(
    kube: Kube,
    namespace: str,
    replicas: int,
    *,
    reason: str = "EnginesReady",
    generation: int = 0,
) -> None:
    """Wait until the service is current by the rules of kstatus, with this number of replicas."""

    def is_settled(items: list[Object]) -> bool:
        (item,) = items
        status = item.get("status", {})
        kinds = {entry["type"]: entry for entry in status.get("conditions", [])}
        return (
            status.get("observedGeneration", -1) == item["metadata"]["generation"] >= generation
            and "Reconciling" not in kinds
            and "Stalled" not in kinds
            and (kinds["Ready"]["status"], kinds["Ready"]["reason"]) == ("True", reason)
            and status["replicas"] == status["readyReplicas"] == replicas
        )

    kube.until(
        "InferenceService", namespace, is_settled, name="full", timeout=90, what=f"{replicas} ready"
    )


def names_of(items: list[Object]) -> set[str]:
    """Return the names of the objects."""
    return {item["metadata"]["name"] for item in items}


def reported(kube: Kube, namespace: str, reason: str, pod: str, detail: str) -> None:
    """Wait until the status of the service reports the loss of the pod, and counts one replica at most."""

    def says(items: list[Object]) -> bool:
        (item,) = items
        said = [
            f"{entry['reason']} {entry['message']}"
            for entry in item.get("status", {}).get("conditions", [])
        ]
        return any(reason in one and pod in one and detail in one for one in said) and (
            item["status"].get("replicas", 0) <= 1
        )

    kube.until("InferenceService", namespace, says, name="full", timeout=60, what=reason)
