"""Status of services whose sources are ModelBuilds."""

from collections.abc import Sequence
from typing import Any

import pytest

from slipstream_operator.core import events, resolve, revisions, status
from slipstream_operator.core.observed import BuildView, ObservedPod
from slipstream_operator.core.status.outcome import Outcome
from tests.support import given

BUILD: dict[str, Any] = {"model": {"uri": "build://small"}}
RUNNING = given.build(None, message="Step 1 of 2, quantize: 41%, 3m left.")
FAILED = given.build(None, phase="Failed", message="awq needs a GPU. Use gptq.")


def summarize(
    spec: dict[str, Any],
    *builds: BuildView,
    children: Sequence[Any] = (),
    pods: tuple[ObservedPod, ...] = (),
) -> dict[str, Any]:
    observed = given.observed(spec, builds=builds, children=children, pods=pods)
    decided = resolve.resolve(observed)
    rollout = None
    if revisions.wanted_revision(observed, decided) is not None:
        rollout = revisions.roll_out(observed, decided, replicas=1, now=given.MOMENT)
    outcome = Outcome(resolved=decided, rollout=rollout)
    return status.summarise(observed, outcome, now=given.NOW)


def served(spec: dict[str, Any], *builds: BuildView, by: dict[str, Any]) -> dict[str, Any]:
    """The status while engines serve the spec `by`."""
    before = given.observed(by, builds=[given.build()])
    revision = revisions.identity(resolve.resolve(before).revisioned)
    children = given.realised(before).children
    return summarize(spec, *builds, children=children, pods=given.pods(revision, 1))


def condition(found: dict[str, Any], kind: str) -> tuple[str, str] | None:
    return next(
        ((one["status"], one["reason"]) for one in found["conditions"] if one["type"] == kind),
        None,
    )


def message(found: dict[str, Any], kind: str) -> str:
    return next(str(one["message"]) for one in found["conditions"] if one["type"] == kind)


@pytest.mark.parametrize(
    ("builds", "reason", "standing"),
    [
        ((), "BuildMissing", "Reconciling"),
        ((RUNNING,), "BuildRunning", "Reconciling"),
        ((FAILED,), "BuildFailed", "Stalled"),
    ],
)
def test_a_service_waits_for_its_build(
    builds: tuple[BuildView, ...], reason: str, standing: str
) -> None:
    found = summarize(BUILD, *builds)
    assert condition(found, "Accepted") == ("True", "Accepted")
    for kind in ("ModelReady", "Available", "Ready"):
        assert condition(found, kind) == ("False", reason)
    assert condition(found, standing) == ("True", reason)
    assert found["builds"] == [{"field": "spec.model.uri", "build": "small"}]
    for view in builds:
        assert view.message in message(found, "ModelReady")


@pytest.mark.parametrize("builds", [(), (RUNNING,), (FAILED,)])
def test_the_revision_that_goes_on_serving_is_named(builds: tuple[BuildView, ...]) -> None:
    found = served(BUILD, *builds, by={"model": given.MODEL})
    assert condition(found, "Available") == ("True", "EnginesReady")
    assert condition(found, "ModelReady") is not None
    assert message(found, "ModelReady").endswith(
        f"Revision {given.identity()} goes on serving requests."
    )


def test_a_deleted_build_whose_artifact_serves_is_a_note_and_no_failure() -> None:
    found = served(BUILD, by=BUILD)
    assert condition(found, "Ready") == ("True", "EnginesReady")
    assert condition(found, "ModelReady") == ("True", "BuildMissing")
    assert "Engines go on with pvc://artifacts/small" in message(found, "ModelReady")
    assert found["builds"][0]["artifact"] == "pvc://artifacts/small"


def test_the_status_shows_the_build_and_the_artifact() -> None:
    draft = {"draft": "build://tiny", "tokens": 4}
    tiny = given.build("pvc://artifacts/tiny", name="tiny", digest="b" * 64)
    found = summarize({**BUILD, "speculation": draft}, given.build(), tiny)
    assert found["builds"] == [
        {
            "field": "spec.model.uri",
            "build": "small",
            "artifact": "pvc://artifacts/small",
            "digest": "a" * 64,
        },
        {
            "field": "spec.speculation.draft",
            "build": "tiny",
            "artifact": "pvc://artifacts/tiny",
            "digest": "b" * 64,
        },
    ]
    assert found["engine"]["speculation"] == "build://tiny, 4 tokens"


def test_an_adapter_that_waits_is_named_while_the_model_serves() -> None:
    adapters = [{"name": "sql", "uri": "build://sql"}]
    spec = {"model": {**given.MODEL, "adapters": adapters}}
    running = given.build(None, name="sql")
    observed = given.observed(spec, builds=[running])
    revision = revisions.identity(resolve.resolve(observed).revisioned)
    found = summarize(
        spec,
        running,
        children=given.realised(observed).children,
        pods=given.pods(revision, 1),
    )
    assert condition(found, "Available") == ("True", "EnginesReady")
    assert condition(found, "ModelReady") == ("False", "BuildRunning")
    assert message(found, "ModelReady").startswith("spec.model.adapters[sql].uri: ")


def test_progress_is_written_every_tenth_and_at_each_step() -> None:
    def at(text: str) -> dict[str, Any]:
        return summarize(BUILD, given.build(None, message=text))

    first = at("Step 1 of 2, quantize: 41%, 3m left.")
    for later, worth in (
        ("Step 1 of 2, quantize: 49%, 2m left.", False),
        ("Step 1 of 2, quantize: 50%, 2m left.", True),
        ("Step 2 of 2, export: 41%, 3m left.", True),
    ):
        assert status.worth_writing(first, at(later), since_last_write=0.0) is worth


def test_a_build_that_fails_or_is_missing_posts_one_event() -> None:
    running, failed = summarize(BUILD, RUNNING), summarize(BUILD, FAILED)
    (event,) = [one for one in events.of_status(running, failed) if one.reason == "BuildFailed"]
    assert (event.type, "awq needs a GPU" in event.message) == ("Warning", True)
    assert events.of_status(failed, failed) == []
    missing = [one.reason for one in events.of_status({}, summarize(BUILD))]
    assert missing == ["BuildMissing"]
