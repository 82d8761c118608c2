"""Failures of pods: their reason and message."""

from typing import Any

import pytest

from slipstream_operator.shell import projections
from tests.support import fakes, pod_statuses

WITHOUT_WORDS = (
    "Error. Read its log, and check that image/vllm:1 is an image of Slipstream's runtime."
)

TROUBLE: dict[str, tuple[dict[str, Any], tuple[str, str] | None]] = {
    "nothing known": ({}, None),
    "running": (pod_statuses.container(state={"running": {}}), None),
    "being created": (pod_statuses.container(**pod_statuses.waiting("ContainerCreating")), None),
    "unschedulable": (
        {
            "conditions": [
                {"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"}
            ]
        },
        ("Unschedulable", "0/3 nodes are available"),
    ),
    "waiting for a node": (
        {
            "conditions": [
                {
                    "type": "PodScheduled",
                    "status": "False",
                    "lastTransitionTime": "2026-01-01T00:00:00Z",
                    "message": "0/3 nodes are available",
                }
            ]
        },
        (
            "Unschedulable",
            "Unschedulable since 2026-01-01T00:00:00Z: 0/3 nodes are available",
        ),
    ),
    "scheduled": ({"conditions": [{"type": "PodScheduled", "status": "True"}]}, None),
    "an image of another project": (
        pod_statuses.container(
            restartCount=2,
            lastState=pod_statuses.ended(1, reason="Error"),
        ),
        (
            "EngineFailed",
            f"the engine ended with exit code 1 (2 restarts): {WITHOUT_WORDS}",
        ),
    ),
    "no image": (
        pod_statuses.container(**pod_statuses.waiting("ErrImagePull", "not found")),
        ("ImagePullFailed", "image/vllm:1: not found"),
    ),
    "no image, without words": (
        pod_statuses.container(**pod_statuses.waiting("ImagePullBackOff")),
        ("ImagePullFailed", "image/vllm:1: ImagePullBackOff"),
    ),
    "a missing secret": (
        pod_statuses.container(
            **pod_statuses.waiting("CreateContainerConfigError", 'secret "hf" not found')
        ),
        ("ContainerConfigError", 'secret "hf" not found'),
    ),
    "it ended with its own words": (
        pod_statuses.container(
            state=pod_statuses.ended(1, message="no such model\n", reason="Error"), restartCount=2
        ),
        ("EngineFailed", "the engine ended with exit code 1 (2 restarts): no such model"),
    ),
    "it ended without words": (
        pod_statuses.container(state=pod_statuses.ended(137, reason="Error")),
        ("EngineFailed", f"the engine ended with exit code 137 (0 restarts): {WITHOUT_WORDS}"),
    ),
    "its memory limit was reached": (
        pod_statuses.container(state=pod_statuses.ended(137, reason="OOMKilled")),
        (
            "OutOfMemory",
            (
                "the engine was killed because its memory limit or the node's memory was exhausted (0 restarts). "
                "Raise limits.memory and requests.memory in spec.resources, or lower batching.maxSequences."
            ),
        ),
    ),
    "its memory limit was reached before": (
        pod_statuses.container(
            **pod_statuses.waiting("CrashLoopBackOff", "back-off 5m"),
            lastState=pod_statuses.ended(137, reason="OOMKilled"),
            restartCount=3,
        ),
        (
            "OutOfMemory",
            (
                "the engine was killed because its memory limit or the node's memory was exhausted (3 restarts). "
                "Raise limits.memory and requests.memory in spec.resources, or lower batching.maxSequences."
            ),
        ),
    ),
    "an init container failed, and left what may be a secret": (
        {
            "initContainerStatuses": [
                {
                    "name": "fetch",
                    "image": "tools:1",
                    "state": pod_statuses.ended(3, message="no route"),
                }
            ],
            **pod_statuses.container(**pod_statuses.waiting("PodInitializing")),
        },
        (
            "EngineFailed",
            "init container fetch ended with exit code 3 (0 restarts): Error. Read its log.",
        ),
    ),
    "an init container has no image": (
        {
            "initContainerStatuses": [
                {
                    "name": "fetch",
                    "image": "tools:1",
                    **pod_statuses.waiting("ImagePullBackOff", "denied"),
                }
            ]
        },
        ("ImagePullFailed", "tools:1: denied"),
    ),
    "an init container had no memory": (
        {
            "initContainerStatuses": [
                {
                    "name": "fetch",
                    "image": "tools:1",
                    "state": pod_statuses.ended(137, reason="OOMKilled"),
                }
            ]
        },
        (
            "OutOfMemory",
            (
                "init container fetch was killed because its memory limit or the node's memory was exhausted (0 "
                "restarts). Raise limits.memory in its resources in spec.template.initContainers."
            ),
        ),
    ),
    "an init container succeeded the second time": (
        {
            "initContainerStatuses": [
                {
                    "name": "fetch",
                    "image": "tools:1",
                    "restartCount": 1,
                    "state": pod_statuses.ended(0),
                    "lastState": pod_statuses.ended(1, message="no route"),
                }
            ],
            **pod_statuses.container(state={"running": {}}),
        },
        None,
    ),
    "a sidecar runs again": (
        pod_statuses.with_sidecar(
            state={"running": {}},
            lastState=pod_statuses.ended(137, reason="OOMKilled"),
            restartCount=1,
        ),
        None,
    ),
    "a sidecar has ended": (
        pod_statuses.with_sidecar(state=pod_statuses.ended(2, message="no certificate")),
        (
            "EngineFailed",
            "container proxy ended with exit code 2 (0 restarts): Error. Read its log.",
        ),
    ),
    "a sidecar ends again and again for want of memory": (
        pod_statuses.with_sidecar(
            **pod_statuses.waiting("CrashLoopBackOff", "back-off 5m"),
            lastState=pod_statuses.ended(137, reason="OOMKilled"),
            restartCount=4,
        ),
        (
            "OutOfMemory",
            (
                "container proxy was killed because its memory limit or the node's memory was exhausted (4 "
                "restarts). Raise its memory limit in the configuration that injects it."
            ),
        ),
    ),
    "it waits to be started again": (
        pod_statuses.container(
            **pod_statuses.waiting("CrashLoopBackOff", "back-off 5m"),
            lastState=pod_statuses.ended(1, message="no such model"),
            restartCount=7,
        ),
        ("EngineFailed", "the engine ended with exit code 1 (7 restarts): no such model"),
    ),
    "it ended well and waits": (
        pod_statuses.container(
            **pod_statuses.waiting("CrashLoopBackOff", "back-off"), lastState=pod_statuses.ended(0)
        ),
        ("EngineFailed", "CrashLoopBackOff: back-off"),
    ),
    "it was started again": (
        pod_statuses.container(
            state={"running": {}}, lastState=pod_statuses.ended(1, message="once"), restartCount=1
        ),
        ("EngineFailed", "the engine ended with exit code 1 (1 restart): once"),
    ),
    "it ended well": (pod_statuses.container(state=pod_statuses.ended(0)), None),
}


@pytest.mark.parametrize(("status", "expected"), TROUBLE.values(), ids=TROUBLE)
def test_the_failure_of_a_pod_has_a_reason_and_a_message(
    status: dict[str, Any], expected: tuple[str, str] | None
) -> None:
    assert projections.pod(fakes.pod_body("a", status=status)).trouble == expected


def test_a_pod_that_ended_has_the_time_of_its_end() -> None:
    ended = pod_statuses.container(state=pod_statuses.ended(137, finishedAt="2026-01-01T00:00:05Z"))
    found = projections.pod(fakes.pod_body("a", status={"phase": "Failed", **ended}))
    assert found.ended
    assert found.gone_at == "2026-01-01T00:00:05Z"
    never_ran = {"phase": "Failed", "startTime": "2026-01-01T00:00:01Z"}
    assert projections.pod(fakes.pod_body("a", status=never_ran)).gone_at == never_ran["startTime"]
    assert projections.pod(fakes.pod_body("a")).gone_at is None


def test_a_long_message_keeps_the_exit_code_and_its_end() -> None:
    status = pod_statuses.container(state=pod_statuses.ended(1, message="x" * 5000 + "the cause"))
    trouble = projections.pod(fakes.pod_body("a", status=status)).trouble
    assert trouble is not None
    assert len(trouble[1]) == 1000
    assert trouble[1].startswith("the engine ended with exit code 1 (0 restarts): xxx")
    assert trouble[1].endswith("the cause")
