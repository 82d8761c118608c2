"""Pods in every state that the API allows, for property tests: phase, reason, conditions and containers."""

from typing import Any, Final

from hypothesis import strategies as st

from slipstream_operator import names
from slipstream_operator.core import pod_failures
from tests.support import fakes, given

LIVING: Final = ("Pending", "Running", "Unknown")
REASONS: Final = (
    None, "", "Evicted", "Terminated", "NodeShutdown", "Shutdown", "NodeLost", "Preempting",
    "UnexpectedAdmissionError", "OutOfcpu", "OutOfnvidia.com/gpu", "NodeAffinity", "TopologyAffinityError",
    "PodLevelResourcesNotSupported", "DeadlineExceeded", "Completed", "Another",
)  # fmt: skip
DISRUPTIONS: Final = (
    "TerminationByKubelet", "PreemptionByScheduler", "DeletionByTaintManager", "DeletionByPodGC",
    "EvictionByEvictionAPI", "DeletionByDeviceTaintManager", "Another", "",
)  # fmt: skip
MESSAGES: Final = (
    "",
    "The node was low on resource: memory.",
    "Pod was terminated in response to imminent node shutdown.",
    "Preempted in order to admit critical pod",
    "Pod was rejected: no healthy devices",
)
_TIMES: Final = (None, "2026-01-03T00:43:00Z", given.NOW, "2026-02-01T00:00:00Z")


def _condition(kind: str, reasons: tuple[str, ...]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {"type": st.just(kind), "status": st.sampled_from(["True", "False", "Unknown"])},
        optional={
            "reason": st.sampled_from(reasons),
            "message": st.sampled_from(MESSAGES),
            "lastTransitionTime": st.just(given.NOW),
        },
    )


CONDITIONS: Final = st.lists(
    st.one_of(
        _condition("Ready", ("PodFailed", "ContainersNotReady")),
        _condition("ContainersReady", ("PodFailed",)),
        _condition("PodScheduled", ("Unschedulable",)),
        _condition("DisruptionTarget", DISRUPTIONS),
    ),
    max_size=4,
    unique_by=lambda condition: condition["type"],
)
_STATES: Final = st.one_of(
    st.just({}),
    st.just({"running": {"startedAt": given.NOW}}),
    st.sampled_from(["ContainerCreating", "CrashLoopBackOff", "ImagePullBackOff"]).map(
        lambda reason: {"waiting": {"reason": reason}}
    ),
    st.builds(
        lambda code, reason: {
            "terminated": {"exitCode": code, "reason": reason, "finishedAt": given.NOW}
        },
        st.sampled_from([0, 1, 137, 143]),
        st.sampled_from(["Completed", "Error", "OOMKilled", "ContainerStatusUnknown"]),
    ),
)
CONTAINERS: Final = st.lists(
    st.builds(
        lambda name, state, before, restarts: {
            "name": name, "image": "image:1", "state": state, "lastState": before, "restartCount": restarts,
        },
        st.sampled_from([names.ENGINE_CONTAINER, "proxy"]), _STATES, _STATES, st.integers(0, 3),
    ),
    max_size=2,
    unique_by=lambda container: container["name"],
)  # fmt: skip


@st.composite
def bodies(
    draw: st.DrawFn, *, phases: tuple[str, ...], revisions: tuple[str, ...]
) -> dict[str, Any]:
    """Return a strategy for one engine pod or worker in one of these phases."""
    status = {"phase": draw(st.sampled_from(phases)), "conditions": draw(CONDITIONS)}
    if (reason := draw(st.sampled_from(REASONS))) is not None:
        status |= {"reason": reason, "message": draw(st.sampled_from(MESSAGES))}
    if containers := draw(CONTAINERS):
        status["containerStatuses"] = containers
    name = draw(st.sampled_from([f"drawn-{number}" for number in range(9)]))
    body = fakes.pod_body(draw(st.sampled_from(revisions)), name=name, uid=name, status=status)
    metadata = body["metadata"]
    metadata["creationTimestamp"] = draw(st.sampled_from([given.CREATED, "2026-01-03T00:43:00Z"]))
    if (deleted := draw(st.sampled_from(_TIMES))) is not None:
        metadata |= {"deletionTimestamp": deleted, "deletionGracePeriodSeconds": 30}
    if draw(st.booleans()):
        metadata["labels"][names.WORKER_LABEL] = metadata["labels"].pop(names.SERVICE_LABEL)
    return body


def ended(*revisions: str) -> st.SearchStrategy[list[dict[str, Any]]]:
    """Return a strategy for pods of these revisions that have ended."""
    return st.lists(
        bodies(phases=pod_failures.ENDED, revisions=revisions),
        min_size=1,
        max_size=5,
        unique_by=lambda body: body["metadata"]["name"],
    )
