"""The phase of a build is that of its Job, and its message the stage, the progress or the failure."""

from typing import Any

import pytest

from slipstream_operator.core.builds import state
from slipstream_operator.core.builds.reports import Progress
from slipstream_operator.core.builds.state import State
from slipstream_operator.names import Reason
from tests.support import modelbuilds
from tests.support.modelbuilds import ended, finished, pod, running, stage


def _state(
    *pods: Any, job: dict[str, Any] | None = None, progress: Progress | None = None
) -> State:
    observed = modelbuilds.observed(pods=pods, job=job or {})
    return state.state(observed, modelbuilds.STAGES, progress)


def test_a_build_without_a_pod_is_pending() -> None:
    found = _state()
    assert (found.phase, found.step) == ("Pending", None)


def test_a_pod_without_a_node_says_why() -> None:
    trouble = (Reason.UNSCHEDULABLE, "0/3 nodes are available")
    found = _state(pod(phase="Pending", trouble=trouble))
    assert (found.phase, found.reason) == ("Pending", Reason.UNSCHEDULABLE)
    assert "0/3 nodes" in found.message


def test_a_running_stage_shows_its_progress() -> None:
    progress = Progress(stage="0-quantize", done=45, total=100, eta=200)
    found = _state(pod(stage("source"), running("0-quantize")), progress=progress)
    assert (found.phase, found.step) == ("Running", "0-quantize")
    assert found.message == "0-quantize: 45%, 3m20s left."
    assert found.stages["source"] == "Succeeded"


def test_the_progress_of_the_stage_before_is_not_shown() -> None:
    progress = Progress(stage="source", done=1, total=1)
    found = _state(pod(stage("source"), running("0-quantize")), progress=progress)
    assert found.progress is None
    assert found.message == "0-quantize: running."


def test_a_complete_job_is_ready_with_the_artifact() -> None:
    found = _state(finished(), job=ended("Complete"))
    assert (found.phase, found.reason) == ("Ready", Reason.PUBLISHED)
    assert "pvc://models/small" in found.message


def test_a_failure_that_no_retry_helps_fails_the_build() -> None:
    failed = stage("0-quantize", "spec.steps[0]: no. Use yes.", exit_code=2)
    found = _state(
        pod(stage("source"), failed, phase="Failed"), job=ended("Failed", "PodFailurePolicy")
    )
    assert (found.phase, found.reason, found.step) == ("Failed", Reason.BUILD_FAILED, "0-quantize")
    assert found.message == "0-quantize: spec.steps[0]: no. Use yes."


def test_a_transient_failure_says_that_it_is_tried_again() -> None:
    failed = stage("source", "the hub did not answer", exit_code=1)
    found = _state(pod(failed, phase="Failed"))
    assert (found.phase, found.reason) == ("Running", Reason.BUILDING)
    assert found.message == "source: the hub did not answer. A new pod tries again."


def test_the_last_failure_is_named_after_all_retries() -> None:
    first = pod(stage("source", "first", exit_code=1), phase="Failed")
    last = pod(
        stage("source", "last", exit_code=1),
        phase="Failed",
        name="pod-1",
        created="2026-01-01T00:05:00Z",
    )
    found = _state(last, first, job=ended("Failed", "BackoffLimitExceeded"))
    assert found.phase == "Failed"
    assert found.message.startswith("source: last. Several pods failed")


def test_a_failed_job_without_pods_has_the_jobs_message() -> None:
    found = _state(job=ended("Failed", "BackoffLimitExceeded", "Job has reached its limit"))
    assert "Job has reached its limit" in found.message


def test_a_new_pod_after_a_lost_node_goes_on() -> None:
    lost = pod(
        stage("source"),
        stage("0-quantize", "", exit_code=137),
        phase="Failed",
        trouble=(Reason.NODE_DRAINED, "drained"),
    )
    fresh = pod(
        stage("source"), running("0-quantize"), name="pod-1", created="2026-01-01T00:05:00Z"
    )
    found = _state(lost, fresh)
    assert (found.phase, found.step) == ("Running", "0-quantize")
    assert found.stages["source"] == "Succeeded"


def test_a_killed_stage_names_the_limit_to_raise() -> None:
    killed = stage("0-quantize", "", exit_code=137, out_of_memory=True)
    found = _state(
        pod(stage("source"), killed, phase="Failed"), job=ended("Failed", "BackoffLimitExceeded")
    )
    assert found.reason == Reason.OUT_OF_MEMORY
    assert "limits.memory" in found.message


@pytest.mark.parametrize(
    ("verdict", "reason"),
    [("Failed", Reason.QUALITY_TOO_LOW), ("Inconclusive", Reason.QUALITY_INCONCLUSIVE)],
)
def test_answers_that_did_not_hold_fail_the_build_with_their_scores(
    verdict: str, reason: str
) -> None:
    rejected = {**modelbuilds.QUALITY, "verdict": verdict, "reason": "ExactMatch lost 4 %."}
    ran = pod(
        stage("source"),
        stage("0-quantize"),
        stage("0-quality", rejected, exit_code=2),
        phase="Failed",
    )
    found = _state(ran, job=ended("Failed", "PodFailurePolicy"))
    assert (found.phase, found.reason) == ("Failed", reason)
    assert "lost 4 %" in found.message
    assert found.reports["0-quality"].text("verdict") == verdict


def test_a_pod_that_is_gone_before_its_report_was_read_is_run_again() -> None:
    found = _state(job=ended("Complete"))
    assert found.phase == "Running"
    assert found.lost_report


def test_an_image_that_leaves_no_report_is_not_run_for_ever() -> None:
    silent = pod(*(stage(name, "done") for name in modelbuilds.STAGES), phase="Succeeded")
    found = _state(silent, job=ended("Complete"))
    assert (found.phase, found.lost_report) == ("Failed", False)
    assert "images.builder" in found.message


def test_a_pod_of_another_job_counts_nowhere() -> None:
    stranger = pod(stage("source", "bad", exit_code=1), phase="Failed", job="another")
    assert _state(stranger).message == "Waiting for the pod of the Job."


def test_a_report_without_a_long_uri_has_that_of_the_spec() -> None:
    short = {key: value for key, value in modelbuilds.PUBLISHED.items() if key != "uri"}
    stages = [stage(name) for name in modelbuilds.STAGES[:-1]]
    found = _state(pod(*stages, stage("publish", short)), job=ended("Complete"))
    assert (found.phase, found.message) == ("Ready", "The artifact is at pvc://models/small.")
