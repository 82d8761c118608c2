"""Pods that kubelet and kernel end: status says why, and a pod that was evicted is no replica."""

import json
from typing import Any

from dev.cluster.kube import Kube, Object, condition
from slipstream_operator.api import units
from tests.support import losses, services

NOTICED = 90.0
"""Seconds until the kubelet has measured a volume and evicts, both each ten seconds, on a busy machine."""


def filled(image: str) -> dict[str, Any]:
    """A template whose init container writes more into a volume than it may hold."""
    return {
        "volumes": [{"name": "spare", "emptyDir": {"sizeLimit": "1Mi"}}],
        "initContainers": [
            {
                "name": "fill",
                "image": image,
                "command": ["dd", "if=/dev/zero", "of=/mnt/spare/file", "bs=1M", "count=8"],
                "volumeMounts": [{"name": "spare", "mountPath": "/mnt/spare"}],
            }
        ],
    }


def evicted(items: list[Object]) -> list[Object]:
    """Pods that the kubelet evicted."""
    return [item for item in items if item.get("status", {}).get("reason") == "Evicted"]


def test_an_eviction_by_the_kubelet_is_told_with_its_remedy_and_leaves_no_replica_behind(
    kube: Kube, namespace: str
) -> None:
    profile = kube.get("ServingProfile", None, "local")
    assert profile is not None
    template = filled(profile["spec"]["images"]["simulator"])
    kube.apply(services.simulated(namespace, "full", fake=False, template=template))
    (lost,) = kube.until("Pod", namespace, evicted, timeout=NOTICED, what="an evicted pod")

    def told(items: list[Object]) -> Object | None:
        for item in items:
            for kind in ("Available", "Reconciling"):
                found = condition(item, kind)
                if found and "Evicted" in (found["reason"], found["message"].split(": ")[0][-7:]):
                    return item
        return None

    item = kube.until(
        "InferenceService", namespace, told, name="full", timeout=30, what="the cause"
    )
    conditions = " ".join(entry["message"] for entry in item["status"]["conditions"])
    assert 'EmptyDir volume "spare" exceeds the limit "1Mi"' in conditions
    assert "Raise sizeLimit of the volume in spec.template.volumes" in conditions
    assert item["status"].get("replicas", 0) <= 1
    assert lost["status"]["phase"] == "Failed"


def test_a_service_with_evicted_pods_settles_and_changes_as_if_they_were_not_there(
    kube: Kube, namespace: str
) -> None:
    service = services.simulated(
        namespace,
        "full",
        fake=False,
        replicas=2,
        rollout={"strategy": "Recreate"},
        resources={
            "requests": {"cpu": "20m", "memory": "128Mi", "ephemeral-storage": "10Mi"},
            "limits": {"ephemeral-storage": "30Mi"},
        },
    )
    kube.apply(service)
    losses.settled(kube, namespace, 2)
    fill = ["-c", "engine", "--", "python", "-c", "open('/tmp/file', 'wb').write(bytes(60 << 20))"]
    for pod in kube.find("Pod", namespace):
        kube.kubectl("exec", "-n", namespace, pod["metadata"]["name"], *fill)
    kube.until(
        "Pod",
        namespace,
        lambda items: len(evicted(items)) == 2,
        timeout=NOTICED,
        what="two evicted pods",
    )
    losses.settled(kube, namespace, 2)
    notes = kube.until("Event", namespace, reports, timeout=30, what="an Event")
    assert len(notes) - sum(note.startswith("Available: ") for note in notes) <= 1
    assert "ephemeral local storage usage exceeds the total limit of containers" in notes[0]
    assert "Request more ephemeral-storage in spec.resources" in notes[0]

    kube.kubectl("scale", "infer/full", "-n", namespace, "--replicas=3")
    losses.settled(kube, namespace, 3)

    service["spec"] |= {"replicas": 1, "simulator": {"maxSequences": 7}}
    kube.apply(service)
    losses.settled(kube, namespace, 1, generation=3)

    kube.kubectl("scale", "infer/full", "-n", namespace, "--replicas=0")
    losses.settled(kube, namespace, 0, reason="Stopped", generation=4)


def reports(items: list[Object]) -> list[str]:
    """Return the notes of the operator's Events about evictions."""
    return [
        event["note"]
        for event in items
        if event["reason"] == "Evicted" and event["regarding"]["kind"] == "InferenceService"
    ]


def test_a_container_that_the_kernel_kills_for_its_memory_is_told_so(
    kube: Kube, namespace: str
) -> None:
    profile = kube.get("ServingProfile", None, "local")
    assert profile is not None
    greedy = {
        "name": "greedy",
        "image": profile["spec"]["images"]["simulator"],
        "command": ["dd", "if=/dev/zero", "of=/dev/null", "bs=256M", "count=1"],
        "resources": {"limits": {"memory": "32Mi"}},
    }
    template = {"initContainers": [greedy]}
    kube.apply(services.simulated(namespace, "greedy", fake=False, template=template))

    def killed(items: list[Object]) -> str | None:
        found = [condition(item, "Available") for item in items]
        told = [entry["message"] for entry in found if entry.get("reason") == "OutOfMemory"]
        return told[0] if told else None

    message = kube.until(
        "InferenceService", namespace, killed, name="greedy", timeout=60, what="the cause"
    )
    assert "init container greedy was killed because its memory limit" in message
    assert "Raise limits.memory" in message


SHARE = 0.6
"""Share of the node's free CPU that a pod requests, so that no two fit."""


def test_pods_that_their_node_refuses_or_that_are_preempted_are_replaced_and_count_nowhere(
    kube: Kube, namespace: str
) -> None:
    node, cpu = room(kube)
    service = services.simulated(
        namespace,
        "full",
        fake=False,
        resources={"requests": {"cpu": cpu, "memory": "128Mi"}},
        template={"schedulerName": losses.UNBOUND},
    )
    kube.apply(service)
    kube.apply(blocker(kube, namespace, cpu, nodeName=node))
    started(kube, namespace, "blocker")
    refused = bind(kube, namespace, node)
    losses.reported(kube, namespace, "RejectedByNode", refused, "OutOfcpu")
    kube.delete("Pod", namespace, "blocker", gracePeriodSeconds=0)
    kube.until("Pod", namespace, lambda items: "blocker" not in losses.names_of(items), timeout=60)
    taken = bind(kube, namespace, node)
    losses.settled(kube, namespace, 1)
    assert {refused, taken} <= losses.names_of(kube.find("Pod", namespace))

    kube.kubectl("create", "priorityclass", namespace, "--value=1000")
    try:
        kube.apply(
            blocker(
                kube,
                namespace,
                cpu,
                priorityClassName=namespace,
                nodeSelector={"kubernetes.io/hostname": node},
            )
        )
        losses.reported(kube, namespace, "Preempted", taken, "priorityClassName")
        started(kube, namespace, "blocker")
    finally:
        kube.delete("Pod", namespace, "blocker", gracePeriodSeconds=0)
        kube.kubectl("delete", "priorityclass", namespace)
    kube.until("Pod", namespace, lambda items: "blocker" not in losses.names_of(items), timeout=60)
    bind(kube, namespace, node)
    losses.settled(kube, namespace, 1)


def room(kube: Kube) -> tuple[str, str]:
    """Return the real node, and a request of CPU that fits there only once."""
    (node,) = (
        item for item in kube.find("Node") if item["metadata"]["labels"].get("type") != "kwok"
    )
    name = node["metadata"]["name"]
    used = sum(
        units.quantity(container.get("resources", {}).get("requests", {}).get("cpu", "0"))
        for pod in kube.find("Pod")
        if pod["spec"].get("nodeName") == name
        and pod["status"]["phase"] not in ("Failed", "Succeeded")
        for container in pod["spec"]["containers"]
    )
    free = units.quantity(node["status"]["allocatable"]["cpu"]) - used
    return name, f"{int(float(free) * SHARE * 1000)}m"


def blocker(kube: Kube, namespace: str, cpu: str, **spec: Any) -> dict[str, Any]:
    """Return a pod of another team that requests the CPU."""
    profile = kube.get("ServingProfile", None, "local")
    assert profile is not None
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "blocker", "namespace": namespace},
        "spec": {
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [
                {
                    "name": "sleep",
                    "image": profile["spec"]["images"]["simulator"],
                    "command": ["sleep", "600"],
                    "resources": {"requests": {"cpu": cpu}},
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "capabilities": {"drop": ["ALL"]},
                        "runAsUser": 65532,
                    },
                }
            ],
            **spec,
        },
    }


def started(kube: Kube, namespace: str, name: str) -> None:
    """Wait until the pod runs."""

    def runs(items: list[Object]) -> bool:
        return any(item.get("status", {}).get("phase") == "Running" for item in items)

    kube.until("Pod", namespace, runs, name=name, timeout=60, what=name)


def bind(kube: Kube, namespace: str, node: str) -> str:
    """Wait for an engine without a node, bind it to the node as a scheduler does, and return its name."""

    name = losses.unbound(kube, namespace)
    binding = {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": name},
        "target": {"apiVersion": "v1", "kind": "Node", "name": node},
    }
    path = f"{kube.path('Pod', namespace, name)}/binding"
    kube.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(binding))
    return name
