"""Status of a ModelBuild, from the observed objects and the reports of its stages."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from slipstream_operator.api import conditions
from slipstream_operator.api.conditions import Verdict
from slipstream_operator.api.modelbuild import (
    ArtifactStatus,
    BuildProgress,
    EstimateStatus,
    FileStatus,
    LineageStatus,
    MetricStatus,
    ModelBuildStatus,
    NamedText,
    QualityStatus,
    StepStatus,
)
from slipstream_operator.api.status import ConditionStatus
from slipstream_operator.core import pod_failures, wording
from slipstream_operator.core.builds.reports import Report
from slipstream_operator.core.builds.state import State, duration
from slipstream_operator.core.events import Event
from slipstream_operator.core.observed import Manifest, ObservedBuild
from slipstream_operator.errors import PermanentError
from slipstream_operator.names import Condition, Reason
from slipstream_runtime import contract

MOST_FILES: Final = 64
_MOST_NAMES: Final = 32
_MOST_METRICS: Final = 16
_DIGEST: Final = re.compile("sha256:[0-9a-f]{64}")
_KEPT: Final = ("steps", "artifact", "lineage", "estimate", "peakMemory", "duration", "quality")
"""Fields that outlive the pods from which they came."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Result of one reconcile."""

    state: State | None = None
    """None before the Job exists."""
    refusal: PermanentError | None = None
    conflicts: Sequence[object] = ()
    failures: Sequence[str] = ()
    stages: Sequence[str] = ()
    recipe: Manifest | None = None
    """Recipe of the Job; None if it is unknown."""
    digest: str | None = None
    """SHA-256 of the recipe."""
    ephemeral: bool = False
    """Whether finished steps are lost with the pod."""


def finished(status: Mapping[str, Any]) -> bool:
    """Whether the status says that the build has ended."""
    return status.get("phase") in ("Ready", "Failed")


def news(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Event]:
    """Return the Event of a build that ended, or that is refused."""
    ready = _condition(new, Condition.READY)
    if finished(new) and not finished(old):
        kind: Literal["Normal", "Warning"] = "Normal" if new["phase"] == "Ready" else "Warning"
        return [Event(kind, ready["reason"], f"Ready: {ready['message']}")]
    was = _condition(old, Condition.READY)
    if finished(old) and ready.get("status") == "False" and was.get("status") == "True":
        return [Event("Warning", ready["reason"], f"Ready: {ready['message']}")]
    accepted, before = _condition(new, Condition.ACCEPTED), _condition(old, Condition.ACCEPTED)
    if accepted.get("status") == "False" and before.get("status") != "False":
        return [Event("Warning", accepted["reason"], f"Accepted: {accepted['message']}")]
    return []


def _condition(status: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    found = (entry for entry in status.get("conditions", ()) if entry["type"] == kind)
    return next(found, {})


def checked(observed: ObservedBuild, *, now: str) -> dict[str, Any]:
    """Return the status of a finished build. `Ready` is False while engines can't read its artifact."""
    found = dict(observed.parent.status)
    uri = found.get("artifact", {}).get("uri")
    if found.get("phase") != "Ready" or uri is None:
        return found
    ready = Verdict(Condition.READY, "True", Reason.PUBLISHED, f"The artifact is at {uri}.")
    for service, message in observed.complaints:
        if f"{uri}:" in message:
            said = wording.sentence(message)
            ready = Verdict(
                Condition.READY,
                "False",
                Reason.ARTIFACT_UNREADABLE,
                f"An engine of InferenceService {service} can't read the artifact. {said} If the artifact is gone, "
                "delete the ModelBuild and create it again.",
            )
            break
    before = observed.parent.conditions
    kept = [one for one in before if one.type == Condition.ACCEPTED]
    (merged,) = conditions.merge(
        [ready], before=before, generation=observed.parent.generation, now=now
    )
    found["conditions"] = [
        one.model_dump(by_alias=True, exclude_none=True) for one in (merged, *kept)
    ]
    return found


def summarise(observed: ObservedBuild, outcome: Outcome, *, now: str) -> dict[str, Any]:
    """Return the status to write."""
    parent, state = observed.parent, outcome.state
    verdicts = _verdicts(outcome)
    merged = conditions.merge(
        verdicts, before=parent.conditions, generation=parent.generation, now=now
    )
    found = ModelBuildStatus(
        observed_generation=parent.generation,
        phase=state.phase if state else "Pending",
        step=state.step if state else None,
        progress=_progress(state),
        conditions=[ConditionStatus(**condition.model_dump()) for condition in merged],
    ).model_dump(by_alias=True, exclude_none=True)
    before = {key: parent.status[key] for key in _KEPT if key in parent.status}
    if state is None:
        return {**before, **found}
    return {**found, **before, **_figures(state, outcome, before)}


def _verdicts(outcome: Outcome) -> list[Verdict]:
    accepted, ready = _accepted(outcome), _ready(outcome)
    verdicts = [ready, accepted]
    state = outcome.state
    if outcome.refusal is not None or (state is not None and state.phase == "Failed"):
        verdicts.append(Verdict(Condition.STALLED, "True", ready.reason, ready.message))
    elif ready.status != "True":
        verdicts.append(Verdict(Condition.RECONCILING, "True", ready.reason, ready.message))
    return verdicts


def _accepted(outcome: Outcome) -> Verdict:
    if outcome.refusal is not None:
        refusal = outcome.refusal
        return Verdict(Condition.ACCEPTED, "False", refusal.reason, refusal.message)
    message = "The object is valid."
    if outcome.ephemeral:
        message += (
            " Finished steps are on the pod's own disk, so a new pod starts again. Set spec.workspace.claim to keep "
            "them."
        )
    source = outcome.state.reports.get(contract.SOURCE_STAGE) if outcome.state else None
    if source is not None and (note := source.text("note")) is not None:
        message += f" {note}"
    return Verdict(Condition.ACCEPTED, "True", Reason.ACCEPTED, message)


def _ready(outcome: Outcome) -> Verdict:
    def verdict(reason: str, message: str) -> Verdict:
        return Verdict(Condition.READY, "False", reason, message)

    if outcome.refusal is not None:
        return verdict(outcome.refusal.reason, outcome.refusal.message)
    if outcome.conflicts:
        return verdict(Reason.NAME_CONFLICT, wording.held(outcome.conflicts))
    if outcome.failures:
        return verdict(Reason.REJECTED, " ".join(outcome.failures))
    state = outcome.state
    if state is None:
        return verdict(Reason.PENDING, "The Job is being created.")
    if state.phase == "Ready":
        return Verdict(Condition.READY, "True", state.reason, state.message)
    return verdict(state.reason, state.message)


def _progress(state: State | None) -> BuildProgress | None:
    progress = state.progress if state else None
    if progress is None:
        return None
    return BuildProgress(
        percent=None if progress.share is None else f"{progress.share:.0%}",
        eta=None if progress.eta is None else duration(progress.eta),
        loss=None if progress.loss is None else f"{progress.loss:.4g}",
    )


def _figures(state: State, outcome: Outcome, before: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that come from reports. A report that is gone keeps its former figures."""
    former = {step["name"]: step for step in before.get("steps", ())}
    steps = [_step(name, state, former.get(name)) for name in _own(outcome.stages)]
    found: dict[str, Any] = {"steps": steps}
    source = state.reports.get(contract.SOURCE_STAGE)
    published = state.reports.get(contract.PUBLISH_STAGE)
    if source is not None:
        found["estimate"] = _estimate(source.part("estimate"))
    if state.phase == "Ready" and published is not None:
        found["artifact"] = _artifact(published, source)
    if source is not None or published is not None:
        found["lineage"] = _lineage(outcome, source, published)
    reports = state.reports.values()
    peaks = [peak for one in reports if (peak := one.count("peakMemory")) is not None]
    if peaks:
        found["peakMemory"] = wording.size(max(peaks))
    times = [time for one in reports if (time := one.seconds()) is not None]
    if times:
        found["duration"] = duration(sum(times))
    verdicts = [step["quality"]["verdict"] for step in steps if "quality" in step]
    if verdicts:
        found["quality"] = verdicts[-1]
    return found


def _own(stages: Sequence[str]) -> list[str]:
    """Return the stages without evaluations, which are shown with their step."""
    return [name for name in stages if not _evaluates(name)]


def _evaluates(stage: str) -> bool:
    index, _, kind = stage.partition("-")
    return bool(kind) and stage == contract.quality_stage(int(index))


def _step(name: str, state: State, former: Mapping[str, Any] | None) -> dict[str, Any]:
    phase = state.stages.get(name, "Pending")
    report = state.reports.get(name)
    found = StepStatus(
        name=name,
        phase=phase,
        duration=None if report is None else _duration(report),
        peak_memory=None if report is None else _size(report.count("peakMemory")),
        size=None if report is None else _size(report.count("bytes")),
        facts=None if report is None else _facts(report.part("facts")),
    ).model_dump(by_alias=True, exclude_none=True)
    if report is None and former is not None:
        found = {**former, "phase": _kept(phase, former)}
    index, _, kind = name.partition("-")
    if kind:
        quality = state.reports.get(contract.quality_stage(int(index)))
        if quality is not None:
            found["quality"] = _quality(quality).model_dump(by_alias=True, exclude_none=True)
    return found


def _kept(phase: str, former: Mapping[str, Any]) -> str:
    """Return the phase. A finished stage stays finished while its pod is replaced."""
    return former["phase"] if phase == "Pending" and former["phase"] == "Succeeded" else phase


def _duration(report: Report) -> str | None:
    seconds = report.seconds()
    return None if seconds is None else duration(seconds)


def _facts(report: Report) -> str | None:
    """Return plain facts as text, such as `modules: 28, sparsity: 0.5`."""
    shown = []
    for name in sorted(map(str, report.content))[:_MOST_NAMES]:
        number, text = report.number(name), report.text(name, longest=64)
        value = text if number is None else f"{number:.6g}"
        if value is not None:
            shown.append(f"{pod_failures.plain(name)[:64]}: {value}")
    return ", ".join(shown)[:1024] or None


def _quality(report: Report) -> QualityStatus:
    metrics: dict[str, MetricStatus] = {}
    for entry in report.parts("metrics", most=_MOST_METRICS):
        name = entry.text("name", longest=64)
        if name is not None:
            metrics[name] = MetricStatus(
                name=name,
                candidate=_score(entry.number("candidate")),
                baseline=_score(entry.number("baseline")),
                loss=_interval(entry.number("lossLow"), entry.number("lossHigh")),
                verdict=entry.text("verdict", longest=32),
            )
    return QualityStatus(
        verdict=report.text("verdict", longest=32) or "Unknown",
        metrics=list(metrics.values()) or None,
        items=report.count("items"),
        needed=report.count("needed"),
        acceptance=_percent(report.number("acceptance")),
        tokens_per_step=_score(report.number("tokensPerStep")),
        baseline_tokens_per_step=_score(report.number("baselineTokensPerStep")),
    )


def _artifact(published: Report, source: Report | None) -> dict[str, Any]:
    files = published.part("files")
    hashes = {name: files.sha256(name) for name in sorted(map(str, files.content))}
    listed = [(name, digest) for name, digest in hashes.items() if digest and len(name) <= 1024]
    made, original = published.count("bytes"), source.count("bytes") if source else None
    return ArtifactStatus(
        uri=_address(published),
        size=_of_source(made, original),
        bytes=made,
        source_bytes=original,
        sha256=published.sha256("sha256") or "",
        files=[FileStatus(name=name, sha256=digest) for name, digest in listed[:MOST_FILES]]
        or None,
        files_omitted=(published.count("omitted") or 0) + max(0, len(listed) - MOST_FILES),
    ).model_dump(by_alias=True, exclude_none=True)


def _address(published: Report) -> str:
    """Return the URI of the artifact. An image is named by its digest, because its tag can move."""
    uri, digest = published.text("uri", longest=512) or "", published.text("digest") or ""
    named = uri.startswith("oci://") and "@" not in uri and _DIGEST.fullmatch(digest)
    return f"{uri}@{digest}" if named else uri


def _lineage(outcome: Outcome, source: Report | None, published: Report | None) -> dict[str, Any]:
    versions = published.texts("versions", most=_MOST_NAMES) if published else {}
    datasets = published.texts("datasets", most=_MOST_NAMES) if published else {}
    return LineageStatus(
        source=(outcome.recipe or {}).get("source"),
        revision=source.text("revision") if source else None,
        sha256=source.sha256("sha256") if source else None,
        recipe=outcome.digest,
        versions=_named(versions),
        datasets=_named(datasets),
    ).model_dump(by_alias=True, exclude_none=True)


def _named(texts: Mapping[str, str]) -> list[NamedText] | None:
    return [NamedText(name=name, value=value) for name, value in texts.items()] or None


def _estimate(report: Report) -> dict[str, Any]:
    seconds = report.seconds()
    return EstimateStatus(
        memory=_size(report.count("memory")),
        disk=_size(report.count("disk")),
        duration=None if seconds is None else duration(seconds),
    ).model_dump(by_alias=True, exclude_none=True)


def _of_source(made: int | None, original: int | None) -> str | None:
    if made is None:
        return None
    return f"{wording.size(made)} ({made / original:.0%})" if original else wording.size(made)


def _size(number: int | None) -> str | None:
    return None if number is None else wording.size(number)


def _score(value: float | None) -> str | None:
    return None if value is None else f"{value:.4g}"


def _percent(value: float | None) -> str | None:
    return None if value is None else f"{value:.1%}"


def _interval(low: float | None, high: float | None) -> str | None:
    return None if low is None or high is None else f"{low:.2%} to {high:.2%}"
