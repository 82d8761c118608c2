"""State of a build, from its Job and its pods."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Final, Literal

from slipstream_operator.core import pod_failures
from slipstream_operator.core.builds import reports
from slipstream_operator.core.builds.reports import Progress, Report
from slipstream_operator.core.observed import Builder, Child, ObservedBuild, StageState
from slipstream_operator.names import Reason
from slipstream_runtime import contract

Phase = Literal["Pending", "Running", "Ready", "Failed"]
StagePhase = Literal["Pending", "Running", "Succeeded", "Failed"]

_VERDICTS: Final = {
    "Failed": Reason.QUALITY_TOO_LOW,
    "Inconclusive": Reason.QUALITY_INCONCLUSIVE,
}
_MORE_MEMORY: Final = (
    "was killed because its memory limit, or its node's memory, was exhausted. Raise limits.memory and "
    "requests.memory in spec.resources, or use a smaller batch or maxLength."
)


@dataclasses.dataclass(frozen=True)
class Failure:
    """Failure of a stage, or of a whole pod."""

    reason: str
    message: str
    stage: str | None = None


@dataclasses.dataclass(frozen=True)
class State:
    """State of a build."""

    phase: Phase
    reason: str
    message: str
    step: str | None = None
    stages: Mapping[str, StagePhase] = dataclasses.field(default_factory=dict)
    reports: Mapping[str, Report] = dataclasses.field(default_factory=dict)
    """Stage -> its report: of a finished stage, or of an evaluation that did not pass."""
    progress: Progress | None = None
    lost_report: bool = False
    """Whether the Job is complete, but its pod was deleted before its report was read."""


def running(observed: ObservedBuild) -> Builder | None:
    """Return the pod that works; None if there is none.

    NB: the phase of a pod is Pending while its init containers run.
    """
    pods = [pod for pod in _pods(observed) if not pod.deleting and _works(pod)]
    return pods[-1] if pods else None


def _works(pod: Builder) -> bool:
    return any(stage.state == "running" for stage in pod.stages)


def state(observed: ObservedBuild, names: Sequence[str], progress: Progress | None = None) -> State:
    """Return the state of a build whose Job exists, with the stages of these names."""
    job = observed.child("Job")
    pods = _pods(observed)
    found = State(
        "Pending",
        Reason.BUILDING,
        "Waiting for the pod of the Job.",
        reports=_with_place(_reports(pods, names), observed),
        stages=_stages(pods, names),
    )
    if job is not None and (ended := _condition(job, "Complete")) is not None:
        return _complete(found, pods)
    if job is not None and (ended := _condition(job, "Failed")) is not None:
        return _failed(found, pods, ended)
    return _active(found, pods, progress)


def _pods(observed: ObservedBuild) -> list[Builder]:
    """Return the pods of the Job, the oldest first."""
    job = observed.child("Job")
    if job is None:
        return []
    pods = [pod for pod in observed.pods if pod.job == job.uid]
    return sorted(pods, key=lambda pod: (pod.created, pod.name))


def _complete(found: State, pods: Sequence[Builder]) -> State:
    published = found.reports.get(contract.PUBLISH_STAGE)
    if published is not None and published.text("uri") and published.sha256("sha256"):
        uri = published.text("uri")
        return dataclasses.replace(
            found, phase="Ready", reason=Reason.PUBLISHED, message=f"The artifact is at {uri}."
        )
    if not pods:
        return dataclasses.replace(
            found,
            phase="Running",
            message="The pod was deleted before its report was read. The Job runs again and reads it.",
            lost_report=True,
        )
    return dataclasses.replace(
        found,
        phase="Failed",
        reason=Reason.BUILD_FAILED,
        step=contract.PUBLISH_STAGE,
        message="The stage publish left no valid report. Check that images.builder of the ServingProfile is an image "
        "of Slipstream's builder.",
    )


def _failed(found: State, pods: Sequence[Builder], ended: Mapping[str, str]) -> State:
    failure = next((one for pod in reversed(pods) if (one := _failure(pod)) is not None), None)
    if failure is None:
        said = pod_failures.plain(ended.get("message", "")) or "The Job failed."
        failure = Failure(Reason.BUILD_FAILED, said)
    tried = ""
    if ended.get("reason") == "BackoffLimitExceeded":
        tried = " Several pods failed, and no further one is tried. Create the ModelBuild again."
    return dataclasses.replace(
        found,
        phase="Failed",
        reason=failure.reason,
        message=f"{failure.message}{tried}",
        step=failure.stage,
    )


def _active(found: State, pods: Sequence[Builder], progress: Progress | None) -> State:
    started = any(stage.state != "waiting" for pod in pods for stage in pod.stages)
    found = dataclasses.replace(found, phase="Running" if started else "Pending")
    current = [pod for pod in pods if not pod.deleting]
    if not current:
        return found
    newest = current[-1]
    stage = next((stage.name for stage in newest.stages if stage.state == "running"), None)
    if stage is not None:
        known = progress if progress is not None and progress.stage == stage else None
        return dataclasses.replace(
            found, step=stage, progress=known, message=f"{stage}: {_in_words(known)}"
        )
    failure = _failure(newest)
    if failure is None:
        return found
    if newest.phase in pod_failures.ENDED:
        return dataclasses.replace(
            found, step=failure.stage, message=f"{failure.message} A new pod tries again."
        )
    return dataclasses.replace(found, reason=failure.reason, message=failure.message)


def _failure(pod: Builder) -> Failure | None:
    """Return the failure of a stage, or else of the whole pod; None if there is none."""
    for stage in pod.stages:
        if stage.state == "terminated" and stage.exit_code:
            lost = pod.trouble if pod.trouble and pod.trouble[0] in pod_failures.LOST else None
            return Failure(*lost) if lost else _of_stage(stage)
    return Failure(*pod.trouble) if pod.trouble else None


def _of_stage(stage: StageState) -> Failure:
    if stage.out_of_memory:
        return Failure(Reason.OUT_OF_MEMORY, f"{stage.name} {_MORE_MEMORY}", stage.name)
    report = reports.parse(stage.message)
    if report is not None:
        reason = _VERDICTS.get(report.text("verdict") or "", Reason.BUILD_FAILED)
        said = report.text("reason", longest=pod_failures.MESSAGE_LENGTH)
        return Failure(reason, f"{stage.name}: {said or 'the answers did not hold'}", stage.name)
    said = pod_failures.plain(stage.message)[-pod_failures.MESSAGE_LENGTH :]
    if not said:
        said = f"ended with exit code {stage.exit_code}. Read its log"
    before = "" if said.startswith(f"{stage.name}:") else f"{stage.name}: "
    return Failure(Reason.BUILD_FAILED, f"{before}{said.rstrip('.')}.", stage.name)


def _reports(pods: Sequence[Builder], names: Sequence[str]) -> dict[str, Report]:
    """Return the newest report of each stage, also of an evaluation that did not pass."""
    found: dict[str, Report] = {}
    for pod in pods:
        for stage in pod.stages:
            if stage.state != "terminated" or stage.name not in names:
                continue
            report = reports.parse(stage.message)
            rejected = stage.exit_code and report is not None and report.text("verdict")
            if report is not None and (stage.exit_code == 0 or rejected):
                found[stage.name] = report
    return found


def _with_place(reports: dict[str, Report], observed: ObservedBuild) -> dict[str, Report]:
    """Return the reports; a long URI is left out of that of publish, and is taken from the spec."""
    published, output = reports.get(contract.PUBLISH_STAGE), observed.parent.spec.get("output")
    if published is None or published.text("uri") or not isinstance(output, Mapping):
        return reports
    return {
        **reports,
        contract.PUBLISH_STAGE: Report({**published.content, "uri": output.get("uri")}),
    }


def _stages(pods: Sequence[Builder], names: Sequence[str]) -> dict[str, StagePhase]:
    """Return the phase of each stage in the newest pod that knows it."""
    found: dict[str, StagePhase] = dict.fromkeys(names, "Pending")
    for pod in pods:
        for stage in pod.stages:
            if stage.name not in found:
                continue
            if stage.state == "running":
                found[stage.name] = "Running"
            elif stage.state == "terminated":
                found[stage.name] = "Failed" if stage.exit_code else "Succeeded"
            elif found[stage.name] != "Succeeded":
                found[stage.name] = "Pending"
    return found


def _condition(job: Child, kind: str) -> Mapping[str, str] | None:
    return next(
        (
            entry
            for entry in job.status.get("conditions", [])
            if entry["type"] == kind and entry["status"] == "True"
        ),
        None,
    )


def _in_words(progress: Progress | None) -> str:
    if progress is None or progress.share is None:
        return "running."
    rest = f", {duration(progress.eta)} left" if progress.eta is not None else ""
    return f"{progress.share:.0%}{rest}."


def duration(seconds: float) -> str:
    """Return a time for people, such as 45s, 3m20s or 2h5m."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f}s" if seconds < 10 else f"{whole}s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}m{rest}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m"
