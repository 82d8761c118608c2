"""Failures of pods, by cause: from a pod's status, as kubelet and scheduler write it, to reason, message and remedy."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from slipstream_operator.names import ENGINE_CONTAINER, Reason

Body = Mapping[str, Any]
Failure = tuple[str, str]
"""Reason and message."""

MESSAGE_LENGTH: Final = 1000
"""Characters of a message; of longer words of an engine the end is kept, where engines and remedies have the cause."""
ENDED: Final = ("Failed", "Succeeded")
"""Phases of a pod that never runs again; it stays until it is deleted, and Kubernetes makes another one."""
LOST: Final = (
    Reason.EVICTED,
    Reason.PREEMPTED,
    Reason.NODE_SHUTDOWN,
    Reason.REJECTED_BY_NODE,
    Reason.DRAINED,
)
"""Reasons for which a pod as a whole goes away, whatever its containers do."""

_HARMLESS_WAITING: Final = ("ContainerCreating", "PodInitializing")
_IMAGE_REASONS: Final = (
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
)
_CONFIG_REASONS: Final = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")
_OUT_OF_MEMORY: Final = "OOMKilled"
_FOREIGN_IMAGE: Final = "No module named 'slipstream_runtime'"

_MORE_DISK: Final = (
    "Request more ephemeral-storage in spec.resources, so that the pod gets a node with enough of it, or keep "
    "downloads in spec.cache.model."
)
_MORE_OF_A_VOLUME: Final = "Raise the volume's sizeLimit in spec.template.volumes, or leave it out."
_MORE_MEMORY_ON_THE_NODE: Final = (
    "Request as much memory in spec.resources as the engine uses, so that it is not evicted first."
)
_MORE_MEMORY: Final = (
    "Raise limits.memory and requests.memory in spec.resources, or lower batching.maxSequences."
)
_HIGHER_PRIORITY: Final = (
    "A pod of higher priority took its place. Set spec.template.priorityClassName, or add nodes."
)
_OTHER_NODE: Final = (
    "A new pod starts on another node. On nodes that go away at short notice, such as spot nodes, set spec.times.drain "
    "to less than that notice."
)
_NODE_IN_DOUBT: Final = (
    "A new pod starts. If it happens again, look at the node: a device plugin that restarts, a GPU that failed, or "
    "pods that the scheduler did not place."
)
_NEW_POD: Final = "A new pod starts on another node."

_ADMISSION: Final = (
    "UnexpectedAdmissionError",
    "NodeAffinity",
    "NodeName",
    "NodePorts",
    "NodeUnschedulable",
    "TaintToleration",
    "PodOSNotSupported",
    "InvalidNodeInfo",
)
"""Reasons for which a kubelet refuses a pod that the scheduler gave it, besides `OutOf` and a resource."""
_DISRUPTIONS: Final = {
    "PreemptionByScheduler": (Reason.PREEMPTED, _HIGHER_PRIORITY),
    "DeletionByTaintManager": (Reason.EVICTED, _NEW_POD),
    "EvictionByEvictionAPI": (Reason.DRAINED, _NEW_POD),
    "DeletionByPodGC": (Reason.NODE_SHUTDOWN, _OTHER_NODE),
}
"""Reason of the condition DisruptionTarget -> ours, with a remedy."""


def of(status: Body) -> Failure | None:
    """Return what keeps a pod from running or ended it; None if nothing does."""
    return next(_failures(status), None)


def ended_at(status: Body) -> str | None:
    """Return when the pod's last container ended, or else when the pod was given up; None if it runs."""
    if status.get("phase") not in ENDED:
        return None
    times = [
        container.get("state", {}).get("terminated", {}).get("finishedAt")
        for container in status.get("containerStatuses", [])
    ]
    times += [entry.get("lastTransitionTime") for entry in status.get("conditions", [])]
    return max((time for time in times if time), default=status.get("startTime"))


def _failures(status: Body) -> Iterator[Failure]:
    if (lost := _lost(status)) is not None:
        yield lost
    for condition in status.get("conditions", []):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            yield (
                Reason.UNSCHEDULABLE,
                _short(_since(condition) + condition.get("message", "")),
            )
    containers: Sequence[Body] = [
        *status.get("initContainerStatuses", []),
        *status.get("containerStatuses", []),
    ]
    for container in containers:
        if (failed := _container(container)) is not None:
            yield failed


def _lost(status: Body) -> Failure | None:
    """A kubelet gives a reason for the whole pod; whoever deletes one leaves a condition."""
    reason, message = status.get("reason", ""), status.get("message", "")
    if status.get("phase") == "Failed" and reason:
        return _by_kubelet(reason, message)
    for condition in status.get("conditions", []):
        if condition["type"] == "DisruptionTarget" and condition["status"] == "True":
            known = _DISRUPTIONS.get(condition.get("reason", ""))
            if known is not None:
                return known[0], _with_remedy(condition.get("message", ""), known[1])
    return None


def _by_kubelet(reason: str, message: str) -> Failure | None:
    if reason == "Evicted":
        return Reason.EVICTED, _with_remedy(message, _remedy_of_an_eviction(message))
    if reason in ("Terminated", "NodeShutdown", "Shutdown"):
        return Reason.NODE_SHUTDOWN, _with_remedy(message, _OTHER_NODE)
    if reason == "Preempting":
        return Reason.PREEMPTED, _with_remedy(message, _HIGHER_PRIORITY)
    if reason in _ADMISSION or reason.startswith("OutOf"):
        return Reason.REJECTED_BY_NODE, _with_remedy(f"{reason}: {message}", _NODE_IN_DOUBT)
    return None


def _remedy_of_an_eviction(message: str) -> str:
    if "EmptyDir volume" in message:
        return _MORE_OF_A_VOLUME
    if "low on resource: memory" in message:
        return _MORE_MEMORY_ON_THE_NODE
    if "storage" in message:
        return _MORE_DISK
    return _NEW_POD


def _container(container: Body) -> Failure | None:
    engine = container["name"] == ENGINE_CONTAINER
    who = "the engine" if engine else f"init container {container['name']}"
    waiting = container.get("state", {}).get("waiting") or {}
    reason = waiting.get("reason", "")
    if reason in _IMAGE_REASONS:
        return Reason.IMAGE_PULL, _short(f"{container['image']}: {waiting.get('message', reason)}")
    if reason in _CONFIG_REASONS:
        return Reason.CONFIG_ERROR, _short(waiting.get("message", reason))
    ended = container.get("state", {}).get("terminated") or container.get("lastState", {}).get(
        "terminated"
    )
    if ended and ended.get("exitCode"):
        count = container.get("restartCount", 0)
        restarts = f"{count} restart" if count == 1 else f"{count} restarts"
        if ended.get("reason") == _OUT_OF_MEMORY:
            return Reason.OUT_OF_MEMORY, _short(
                f"{who} was killed because its memory limit, or its node's memory, was exhausted "
                f"({restarts}). {_MORE_MEMORY}"
            )
        said = ended.get("message") or ended.get("reason", "")
        if _FOREIGN_IMAGE in said:
            said = f"{container['image']} is no image of Slipstream's runtime: name one in the ServingProfile"
        begin = f"{who} ended with exit code {ended['exitCode']} ({restarts}): "
        return Reason.ENGINE_FAILED, begin + said.strip()[len(begin) - MESSAGE_LENGTH :]
    if reason and reason not in _HARMLESS_WAITING:
        before = "" if engine else f"{who}: "
        return Reason.ENGINE_FAILED, _short(f"{before}{reason}: {waiting.get('message', '')}")
    return None


def _since(condition: Body) -> str:
    """Return since when a pod waits for a node, as words before the scheduler's own."""
    since = condition.get("lastTransitionTime")
    return f"waiting for a node since {since}: " if since else ""


def _with_remedy(message: str, remedy: str) -> str:
    said = message.strip().rstrip(".")
    return _short(f"{said}. {remedy}" if said else remedy)


def _short(text: str) -> str:
    return text.strip()[-MESSAGE_LENGTH:]
