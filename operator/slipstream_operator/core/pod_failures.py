"""Failures of pods: reason, message and remedy from the status that the kubelet and the scheduler write."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from slipstream_operator.api import units
from slipstream_operator.core import wording
from slipstream_operator.names import ENGINE_CONTAINER, FETCH_COMPONENT, PREFETCH_COMPONENT, Reason

Body = Mapping[str, Any]
Failure = tuple[str, str]
"""Reason and message."""

MESSAGE_LENGTH: Final = 1000
"""Maximum characters of a message. The end of a longer message is kept, because engines write the cause last."""
ENDED: Final = ("Failed", "Succeeded")
"""Phases of a pod that never runs again. It stays until it is deleted, and Kubernetes creates another pod."""
LOST: Final = (
    Reason.EVICTED,
    Reason.PREEMPTED,
    Reason.NODE_SHUTDOWN,
    Reason.REJECTED_BY_NODE,
    Reason.NODE_DRAINED,
)
"""Reasons for the end of the whole pod, independent of its containers."""

_OURS: Final = (ENGINE_CONTAINER, FETCH_COMPONENT, PREFETCH_COMPONENT)
"""Names of the operator's own containers. All other containers are the user's or injected."""
_HARMLESS_WAITING: Final = ("ContainerCreating", "PodInitializing")
_IMAGE_REASONS: Final = (
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
)
_CONFIG_REASONS: Final = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")
OUT_OF_MEMORY: Final = "OOMKilled"
"""Reason of a container that the kernel killed."""

_MORE_DISK: Final = (
    "Request more ephemeral-storage in spec.resources, so that the pod gets a node with enough of it, or keep "
    "downloads in spec.cache.model."
)
_MORE_OF_A_VOLUME: Final = (
    "Raise sizeLimit of the volume in spec.template.volumes, or leave it out."
)
_MORE_MEMORY_ON_THE_NODE: Final = (
    "Request as much memory in spec.resources as the engine uses, so that it is not evicted first."
)
_MORE_MEMORY: Final = (
    "Raise limits.memory and requests.memory in spec.resources, or lower batching.maxSequences."
)
_MORE_MEMORY_AT_INIT: Final = (
    "Raise limits.memory in its resources in spec.template.initContainers."
)
_MORE_MEMORY_OF_ANOTHER: Final = "Raise its memory limit in the configuration that injects it."
_HIGHER_PRIORITY: Final = (
    "A pod with a higher priority preempted it. Set spec.template.priorityClassName, or add nodes."
)
_OTHER_NODE: Final = (
    "A new pod starts on another node. On nodes with a short termination notice, such as spot nodes, set "
    "spec.times.drain to less than the notice."
)
_NODE_IN_DOUBT: Final = (
    "A new pod starts. If it happens again, check the node for a device plugin that restarts, a failed GPU, or "
    "pods that were not scheduled by the scheduler."
)
_NEW_POD: Final = "A new pod starts on another node."

_REJECTIONS: Final = (
    "UnexpectedAdmissionError",
    "OutOf",
    "NodeAffinity",
    "NodePorts",
    "TopologyAffinityError",
    "PodOSSelectorNodeLabelDoesNotMatch",
)
"""Beginnings of the kubelet's reasons for refusing a pod."""
_REJECTED: Final = "Pod was rejected"
"""Beginning of the kubelet's message about a pod that it refuses."""

_DISRUPTIONS: Final = {
    "PreemptionByScheduler": (Reason.PREEMPTED, _HIGHER_PRIORITY),
    "DeletionByTaintManager": (Reason.EVICTED, _NEW_POD),
    "EvictionByEvictionAPI": (Reason.NODE_DRAINED, _NEW_POD),
    "DeletionByPodGC": (Reason.NODE_SHUTDOWN, _OTHER_NODE),
}
"""Reason of the condition DisruptionTarget -> our reason, and a remedy."""


def of(status: Body) -> Failure | None:
    """Return the failure that stopped a pod or keeps it from running; None if there is none."""
    return next(_failures(status), None)


def gone_at(metadata: Body, status: Body) -> str | None:
    """Return the time when the pod ended or its deletion was requested; None if the pod is current.

    A pod ends with its last container, or else when it fails.
    """
    if status.get("phase") not in ENDED:
        return _deletion_requested_at(metadata)
    times = [
        container.get("state", {}).get("terminated", {}).get("finishedAt")
        for container in status.get("containerStatuses", [])
    ]
    times += [entry.get("lastTransitionTime") for entry in status.get("conditions", [])]
    return max((time for time in times if time), default=status.get("startTime"))


def _deletion_requested_at(metadata: Body) -> str | None:
    """Return the time of the request; the API server stores when the grace period ends."""
    end: str | None = metadata.get("deletionTimestamp")
    if end is None:
        return None
    try:
        return units.timestamp(units.moment(end) - metadata.get("deletionGracePeriodSeconds", 0))
    except (ValueError, OverflowError, OSError):
        return end  # NB: a pod may ask for a grace period of more years than times have


def _failures(status: Body) -> Iterator[Failure]:
    if (lost := _lost(status)) is not None:
        yield lost
    for condition in status.get("conditions", []):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            yield (
                Reason.UNSCHEDULABLE,
                _short(_since(condition) + condition.get("message", "")),
            )
    for container in status.get("initContainerStatuses", []):
        if (failed := _foreign(container, kind="init container")) is not None:
            yield failed
    for container in status.get("containerStatuses", []):
        engine = container["name"] in _OURS
        failed = _engine(container) if engine else _foreign(container, kind="container")
        if failed is not None:
            yield failed


def _lost(status: Body) -> Failure | None:
    """Return the failure of the whole pod, from the kubelet's reason or from the condition of a disruption."""
    reason, message = status.get("reason", ""), status.get("message", "")
    if status.get("phase") == "Failed" and reason:
        ran = bool(status.get("containerStatuses"))
        if (failed := _by_kubelet(reason, message, ran=ran)) is not None:
            return failed
    for condition in status.get("conditions", []):
        if condition["type"] == "DisruptionTarget" and condition["status"] == "True":
            return _disrupted(condition.get("reason", ""), condition.get("message", ""))
    return None


def _disrupted(reason: str, message: str) -> Failure:
    """Return the failure that the condition of a disruption reports; the pod may still run.

    The kubelet has one reason for all pods that it ends, and says the cause in the message.
    """
    if reason == "TerminationByKubelet":
        if "shutdown" in message or "shutting down" in message:
            return Reason.NODE_SHUTDOWN, _with_remedy(message, _OTHER_NODE)
        if "Preempted" in message:
            return Reason.PREEMPTED, _with_remedy(message, _HIGHER_PRIORITY)
        return Reason.EVICTED, _with_remedy(message, _remedy_of_an_eviction(message))
    if (known := _DISRUPTIONS.get(reason)) is not None:
        return known[0], _with_remedy(message, known[1])
    said = ": ".join(part for part in (reason, message) if part)
    return Reason.EVICTED, _with_remedy(said, _NEW_POD)


def _by_kubelet(reason: str, message: str, *, ran: bool) -> Failure | None:
    """Return the failure that the kubelet reports.

    A kubelet that refuses a new pod starts none of its containers. A pod that it refuses after a reboot of the node has
    run before, and can keep the states of its containers.
    """
    if reason == "Evicted":
        return Reason.EVICTED, _with_remedy(message, _remedy_of_an_eviction(message))
    if reason in ("Terminated", "NodeShutdown", "Shutdown"):
        return Reason.NODE_SHUTDOWN, _with_remedy(message, _OTHER_NODE)
    if reason == "Preempting":
        return Reason.PREEMPTED, _with_remedy(message, _HIGHER_PRIORITY)
    if not ran or reason.startswith(_REJECTIONS) or message.startswith(_REJECTED):
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


def _engine(container: Body) -> Failure | None:
    """Return the failure of the engine, including its last restart."""
    ended = _terminated(container, "state") or _terminated(container, "lastState")
    return _container(container, ended, who="the engine", memory=_MORE_MEMORY, ours=True)


def _foreign(container: Body, *, kind: str) -> Failure | None:
    """Return the current failure of an init container or a sidecar.

    A failure before a successful restart does not count, because sidecars often restart once.
    """
    ended = _terminated(container, "state")
    if ended is None and container.get("state", {}).get("waiting"):
        ended = _terminated(container, "lastState")
    remedy = _MORE_MEMORY_AT_INIT if kind == "init container" else _MORE_MEMORY_OF_ANOTHER
    who = f"{kind} {container['name']}"
    return _container(container, ended, who=who, memory=remedy, ours=False)


def _terminated(container: Body, state: str) -> Body | None:
    ended: Body | None = container.get(state, {}).get("terminated")
    return ended


def _container(
    container: Body, ended: Body | None, *, who: str, memory: str, ours: bool
) -> Failure | None:
    """Return the failure of a container. `memory` is the remedy for a container that ran out of memory."""
    waiting = container.get("state", {}).get("waiting") or {}
    reason = waiting.get("reason", "")
    if reason in _IMAGE_REASONS:
        return Reason.IMAGE_PULL_FAILED, _short(
            f"{container['image']}: {waiting.get('message', reason)}"
        )
    if reason in _CONFIG_REASONS:
        return Reason.CONTAINER_CONFIG_ERROR, _short(waiting.get("message", reason))
    if ended and ended.get("exitCode"):
        count = container.get("restartCount", 0)
        restarts = wording.counted(count, "restart")
        if ended.get("reason") == OUT_OF_MEMORY:
            return Reason.OUT_OF_MEMORY, _short(
                f"{who} was killed because its memory limit or the node's memory was exhausted ({restarts}). "
                f"{memory}"
            )
        said = _said(container, ended, ours=ours)
        begin = f"{who} ended with exit code {ended['exitCode']} ({restarts}): "
        return Reason.ENGINE_FAILED, begin + plain(said)[len(begin) - MESSAGE_LENGTH :]
    if reason and reason not in _HARMLESS_WAITING:
        before = "" if ours else f"{who}: "
        return Reason.ENGINE_FAILED, _short(f"{before}{reason}: {waiting.get('message', '')}")
    return None


def _said(container: Body, ended: Body, *, ours: bool) -> str:
    """Return what the container left as its reason.

    NB: only the operator's own programs are quoted. What others write could hold a Secret that the reader of the status
    may not read.
    """
    if ours and (message := ended.get("message")):
        return str(message)
    remedy = (
        f"Read its log, and check that {container['image']} is an image of Slipstream's runtime."
        if ours
        else "Read its log."
    )
    return f"{ended.get('reason', 'Error')}. {remedy}"


def _since(condition: Body) -> str:
    """Return the time since which a pod is unschedulable, as a prefix of the scheduler's message."""
    since = condition.get("lastTransitionTime")
    return f"Unschedulable since {since}: " if since else ""


def _with_remedy(message: str, remedy: str) -> str:
    said = message.strip().rstrip(".")
    return _short(f"{said}. {remedy}" if said else remedy)


def _short(text: str) -> str:
    return plain(text)[-MESSAGE_LENGTH:]


def plain(text: str) -> str:
    """Return the text of a pod without characters that act on a terminal or hide other text."""
    return "".join(
        letter if letter.isprintable() or letter == "\n" else " " for letter in text
    ).strip()
