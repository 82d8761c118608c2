"""The status of a ModelBuild shows phase, figures and proof, and nothing that a pod could misuse."""

import dataclasses
import json
from typing import Any

import pytest

from slipstream_operator.core.builds import jobs, reports, state, status
from slipstream_operator.core.builds.reports import Progress
from slipstream_operator.errors import PermanentError
from slipstream_operator.names import Reason
from tests.support import given, modelbuilds
from tests.support.modelbuilds import ended, finished, pod, running, stage


def _status(
    *pods: Any,
    job: dict[str, Any] | None = None,
    before: dict[str, Any] | None = None,
    progress: Progress | None = None,
    spec: dict[str, Any] | None = None,
) -> dict[str, Any]:
    sources = {"allow": ["*"]}
    observed = modelbuilds.observed(spec, pods=pods, job=job or {}, status=before, sources=sources)
    child = observed.child("Job")
    assert child is not None
    work = jobs.work(observed, child)
    outcome = status.Outcome(
        state=state.state(observed, work.stages, progress),
        stages=work.stages,
        recipe=work.recipe,
        digest=work.digest,
        ephemeral=work.ephemeral,
    )
    return status.summarise(observed, outcome, now=given.NOW)


def _conditions(found: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {one["type"]: (one["status"], one["reason"]) for one in found["conditions"]}


def test_a_finished_build_shows_artifact_lineage_quality_and_cost() -> None:
    found = _status(finished(), job=ended("Complete"))
    assert _conditions(found) == {
        "Ready": ("True", Reason.PUBLISHED),
        "Accepted": ("True", Reason.ACCEPTED),
    }
    assert (found["phase"], found["quality"]) == ("Ready", "Passed")
    artifact = found["artifact"]
    assert artifact["size"] == "1.0 MiB (25%)"
    assert (artifact["bytes"], artifact["sourceBytes"]) == (1 << 20, 4 << 20)
    assert {file["name"] for file in artifact["files"]} == {"model.safetensors", "config.json"}
    lineage = found["lineage"]
    assert (lineage["source"], lineage["revision"]) == ("hf://org/model", "0123abc")
    assert lineage["versions"] == [{"name": "torch", "value": "2.13"}]
    assert len(lineage["recipe"]) == 64
    assert (found["peakMemory"], found["duration"]) == ("1.0 GiB", "41s")
    assert found["estimate"] == {"memory": "1.0 GiB", "disk": "8.0 MiB", "duration": "1m0s"}
    steps = {step["name"]: step for step in found["steps"]}
    assert list(steps) == ["source", "0-quantize", "publish"]
    assert steps["0-quantize"]["facts"] == "method: gptq, modules: 28"
    (metric,) = steps["0-quantize"]["quality"]["metrics"]
    assert metric["loss"] == "-0.10% to 0.80%"


def test_a_running_build_shows_its_step_and_progress() -> None:
    progress = Progress(stage="0-quantize", done=1, total=4, eta=30, loss=1.23456)
    found = _status(pod(stage("source"), running("0-quantize")), progress=progress)
    assert (found["phase"], found["step"]) == ("Running", "0-quantize")
    assert found["progress"] == {"percent": "25%", "eta": "30s", "loss": "1.235"}
    assert _conditions(found)["Reconciling"] == ("True", Reason.BUILDING)


def test_a_failed_build_is_stalled_and_has_no_artifact() -> None:
    failed = stage("source", "no such model", exit_code=2)
    found = _status(pod(failed, phase="Failed"), job=ended("Failed", "PodFailurePolicy"))
    assert _conditions(found)["Stalled"] == ("True", Reason.BUILD_FAILED)
    assert "artifact" not in found


def test_figures_of_finished_steps_stay_while_a_pod_is_replaced() -> None:
    before = _status(pod(stage("source"), running("0-quantize")))
    found = _status(before=before)
    assert found["steps"][0] == before["steps"][0]
    assert found["steps"][0]["phase"] == "Succeeded"
    assert found["estimate"] == before["estimate"]


def test_a_build_without_a_claim_says_that_its_steps_are_lost_with_the_pod() -> None:
    spec = {**modelbuilds.SPEC, "output": {"uri": "s3://bucket/small"}}
    accepted = _message(_status(spec=spec), "Accepted")
    assert "spec.workspace.claim" in accepted
    assert "workspace" not in _message(_status(), "Accepted")


def _message(found: dict[str, Any], kind: str) -> str:
    return next(one["message"] for one in found["conditions"] if one["type"] == kind)


def test_a_refused_build_names_the_field() -> None:
    refusal = PermanentError(Reason.UNSUPPORTED, "spec.steps[0]: no. Use yes.")
    observed = modelbuilds.observed()
    found = status.summarise(observed, status.Outcome(refusal=refusal), now=given.NOW)
    assert _conditions(found)["Accepted"] == ("False", Reason.UNSUPPORTED)
    assert _conditions(found)["Stalled"] == ("True", Reason.UNSUPPORTED)
    assert found["phase"] == "Pending"


def test_one_event_reports_the_end() -> None:
    running_, done = _status(pod(running("source"))), _status(finished(), job=ended("Complete"))
    assert [event.reason for event in status.news(running_, done)] == [Reason.PUBLISHED]
    assert status.news(done, done) == []


HOSTILE = [
    {"bytes": -1, "peakMemory": 10**30, "seconds": float("inf"), "sha256": "../../etc"},
    {"bytes": True, "peakMemory": "1", "seconds": "NaN", "sha256": "A" * 64},
    {"bytes": {}, "peakMemory": [], "seconds": None, "facts": [1, 2]},
    {"facts": {"\x1b[2Jname": "\x1b]0;title\x07", "n" * 5000: 1}},
    {"metrics": "all", "verdict": {"a": 1}, "files": ["x"], "versions": 7},
]


@pytest.mark.parametrize("report", HOSTILE)
def test_values_that_a_pod_makes_up_do_not_reach_the_status(report: dict[str, Any]) -> None:
    ran = pod(
        stage("source", {**modelbuilds.SOURCE, **report}),
        stage("0-quantize", {**modelbuilds.STEP, **report}),
        stage("0-quality", {**modelbuilds.QUALITY, **report}),
        running("publish"),
    )
    text = json.dumps(_status(ran), allow_nan=False)
    assert "\\u001b" not in text
    assert "etc" not in text
    assert '"bytes": -1' not in text


def test_an_artifact_without_a_valid_hash_is_none() -> None:
    stages = [stage(name) for name in modelbuilds.STAGES[:-1]]
    forged = stage("publish", {**modelbuilds.PUBLISHED, "sha256": "x" * 64})
    found = _status(pod(*stages, forged, phase="Succeeded"), job=ended("Complete"))
    assert found["phase"] == "Failed"
    assert "artifact" not in found


@pytest.mark.parametrize("message", ["", "{", "[" * 5000, "1e999", '{"stage":' + "1" * 9000 + "}"])
def test_a_message_that_is_no_report_is_none(message: str) -> None:
    assert reports.parse(message) is None


@pytest.mark.parametrize(
    "content",
    [None, [], {"done": "1", "total": 2}, {"done": 1, "total": 0}, {"done": -5, "total": 10}],
)
def test_progress_that_makes_no_sense_is_unknown(content: object) -> None:
    assert reports.parse_progress(content).share is None


def test_a_finished_build_whose_artifact_is_gone_says_so_and_recovers() -> None:
    done = _status(finished(), job=ended("Complete"))
    gone = "the engine ended: pvc://models/small: there is no folder in claim models."
    observed = dataclasses.replace(
        modelbuilds.observed(status=done), complaints=(("other", "busy"), ("chat", gone))
    )
    found = status.checked(observed, now=given.NOW)
    assert _conditions(found)["Ready"] == ("False", Reason.ARTIFACT_UNREADABLE)
    assert "InferenceService chat" in _message(found, "Ready")
    assert (found["phase"], found["artifact"]) == ("Ready", done["artifact"])
    assert [event.reason for event in status.news(done, found)] == [Reason.ARTIFACT_UNREADABLE]
    again = status.checked(modelbuilds.observed(status=found), now=given.NOW)
    assert again == done


def test_an_image_is_named_by_its_digest() -> None:
    image = {"uri": "oci://registry/models/small:1", "digest": f"sha256:{modelbuilds.HASH}"}
    stages = [stage(name) for name in modelbuilds.STAGES[:-1]]
    pushed = stage("publish", {**modelbuilds.PUBLISHED, **image})
    found = _status(pod(*stages, pushed, phase="Succeeded"), job=ended("Complete"))
    assert found["artifact"]["uri"] == f"{image['uri']}@{image['digest']}"


def test_a_dataset_with_too_few_items_is_named_while_the_build_runs() -> None:
    note = "spec.quality: ExactMatch: 48 items are too few. Use at least 381."
    found = _status(pod(stage("source", {**modelbuilds.SOURCE, "note": note}), running("publish")))
    assert _message(found, "Accepted") == f"The object is valid. {note}"
