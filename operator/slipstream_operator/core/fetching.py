"""Job that downloads or inspects a model before engines start.

A download goes to the claim of `spec.cache.model`. An inspection reads sizes and config.json, if the profile states
the memory of the accelerator. Engines wait for both, but a failed inspection does not stop them.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

from slipstream_operator import names
from slipstream_operator.api.inferenceservice import InferenceServiceSpec
from slipstream_operator.api.servingprofile import Accelerator, RouterSpec, ServingProfileSpec
from slipstream_operator.core import facts, pod_failures, pod_template, weights, wording
from slipstream_operator.core.observed import Child, Fetcher, Manifest, Observed
from slipstream_operator.names import Reason

PROGRESS_EVERY: Final = 10.0
"""Seconds between two readings of the progress of a download."""
_KEYS: Final = ("totalBytes", "doneBytes", "bytesPerSecond")


@dataclasses.dataclass(frozen=True)
class Task:
    """Download or inspection, with the settings of its pod."""

    model: str | None
    """Source of the model; None if the Job does not read it."""
    draft: str | None
    claim: str | None
    """Claim to download to; None for an inspection."""
    image: str
    token_secret: tuple[str, str] | None
    credentials: str | None
    template: Manifest
    """Overrides of pods by the user that affect network and identity, as core/v1 names them."""
    placement: Manifest
    """Placement of pods without an accelerator, from the profile."""
    builds: Manifest | None = None
    """Field -> name of a build and digest of its artifact; None without builds."""

    @property
    def identity(self) -> str:
        """Return eight hexadecimal digits of a hash over sources and claim; not over image and environment."""
        parts = [self.model, self.draft, self.claim, *([self.builds] if self.builds else [])]
        text = json.dumps(parts)
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    @property
    def uris(self) -> tuple[str, ...]:
        """Return the sources that the pod reads."""
        return tuple(uri for uri in (self.model, self.draft) if uri is not None)

    @property
    def inspects(self) -> bool:
        """Whether the task is an inspection, without a download."""
        return self.claim is None


@dataclasses.dataclass(frozen=True)
class Fetched:
    """Completed task, with the report of its pod if there is one."""

    task: str
    report: str | None = None

    @property
    def text(self) -> str:
        """Return the text that is stored in the cluster."""
        return json.dumps({"task": self.task, "report": self.report}, sort_keys=True)

    @property
    def facts(self) -> facts.Facts | None:
        """Return the facts about the checkpoints; None without a report."""
        return None if self.report is None else facts.parse(self.report)


@dataclasses.dataclass(frozen=True)
class Progress:
    """Progress of a download in bytes, as its pod reports it. None is unknown."""

    total: int | None = None
    done: int | None = None
    rate: int | None = None
    """Bytes per second."""


@dataclasses.dataclass(frozen=True)
class TaskState:
    """State of an incomplete task, as reason and message of a condition."""

    reason: str
    message: str


def load(text: str) -> Fetched | None:
    """Parse the stored text; return None if it is invalid."""
    try:
        kept = json.loads(text)
        return Fetched(str(kept["task"]), kept["report"] and str(kept["report"]))
    except (ValueError, TypeError, LookupError, RecursionError):
        return None


def task(
    spec: InferenceServiceSpec,
    profile: ServingProfileSpec,
    accelerator: Accelerator,
    *,
    engine_image: str,
    template: Manifest,
    builds: Manifest | None = None,
) -> Task | None:
    """Return the task that engines wait for; None if there is none."""
    if spec.model is None:
        return None
    kept = spec.cache.model if spec.cache else None
    claim = kept.claim.name if kept is not None and kept.claim is not None else None
    downloads = claim is not None and weights.downloads(spec)
    model = _readable(spec.model.uri)
    draft = _readable(spec.speculation.draft if spec.speculation else None)
    if not downloads and not (accelerator.memory and model):
        return None
    images = profile.images
    secret = spec.model.token_secret
    return Task(
        model=model,
        draft=draft,
        claim=claim if downloads else None,
        image=(images and (images.router or images.vllm_cpu)) or engine_image,
        token_secret=(secret.name, secret.key) if secret else None,
        credentials=spec.model.credentials.name if spec.model.credentials else None,
        template={
            key: template[key]
            for key in (
                "env",
                "volumes",
                "volumeMounts",
                "serviceAccountName",
                "imagePullSecrets",
                pod_template.ASSIGNED_USER,
                "labels",
                "annotations",
            )
            if key in template
        },
        placement=_placement(profile.router or RouterSpec()),
        builds=builds,
    )


def noted(observed: Observed, known: Fetched | None) -> Fetched | None:
    """Return the completed task: from the newest pod that succeeded, or as known before."""
    succeeded = [fetcher for fetcher in observed.fetchers if fetcher.phase == "Succeeded"]
    if succeeded:
        newest = max(succeeded, key=lambda fetcher: (fetcher.created, fetcher.name))
        if known is not None and known.task == newest.task and newest.report is None:
            return known
        return Fetched(newest.task, newest.report)
    for job in _jobs(observed):
        # NB: the pod of a completed Job may be deleted, and its report with it.
        if _condition(job, "Complete") and job.task not in {f.task for f in observed.fetchers}:
            return known if known and known.task == job.task else Fetched(job.task)
    return known


def is_done(task: Task, fetched: Fetched | None) -> bool:
    """Whether the task is complete and needs no Job."""
    return fetched is not None and fetched.task == task.identity


def holds(observed: Observed, task: Task | None, fetched: Fetched | None) -> bool:
    """Whether engines wait for the task. A failed inspection does not stop engines."""
    if task is None or is_done(task, fetched):
        return False
    return not (task.inspects and _given_up(observed, task))


def running(observed: Observed, task: Task) -> Fetcher | None:
    """Return the newest pod of the task; None if there is none."""
    pods = [
        fetcher
        for fetcher in observed.fetchers
        if fetcher.task == task.identity and not fetcher.deleting
    ]
    return max(pods, key=lambda fetcher: (fetcher.created, fetcher.name), default=None)


def state(observed: Observed, task: Task, progress: Progress | None) -> TaskState:
    """Return the state of an incomplete task."""
    what = " and ".join(task.uris)
    pod = running(observed, task)
    if pod is None or (pod.trouble is None and pod.phase in pod_failures.ENDED):
        return TaskState(Reason.FETCHING, f"{what}: waiting for the pod of the download Job.")
    if pod.trouble is not None:
        return TaskState(*pod.trouble)
    if task.inspects:
        return TaskState(Reason.FETCHING, f"{what}: reading size and configuration.")
    return TaskState(Reason.FETCHING, f"{what}: {_in_words(progress or Progress())}")


def parse_progress(content: object) -> Progress:
    """Return the progress from a pod's response. Malformed values are unknown."""
    if not isinstance(content, Mapping):
        return Progress()
    values = [content.get(key) for key in _KEYS]
    return Progress(
        *(value if type(value) is int and 0 <= value <= facts.LARGEST else None for value in values)
    )


def _in_words(progress: Progress) -> str:
    if not progress.total or progress.done is None:
        return "downloading."
    share = min(progress.done / progress.total, 1.0)
    rate = f", {wording.size(progress.rate)}/s" if progress.rate else ""
    return f"downloading, {share:.0%} of {wording.size(progress.total)}{rate}."


def _readable(uri: str | None) -> str | None:
    """Return the source if a pod on another node can read it without pulling an image; otherwise None."""
    readable = uri is not None and (weights.is_remote(uri) or weights.claims_of((uri,)))
    return uri if readable else None


def _placement(router: RouterSpec) -> Manifest:
    found: dict[str, Any] = {
        "nodeSelector": router.node_selector,
        "tolerations": [
            each.model_dump(by_alias=True, exclude_none=True) for each in router.tolerations or []
        ],
        "runtimeClassName": router.runtime_class_name,
    }
    return {key: value for key, value in found.items() if value}


@dataclasses.dataclass(frozen=True)
class _Job:
    """Job of the service, with its task."""

    task: str
    child: Child


def _jobs(observed: Observed) -> list[_Job]:
    return [
        _Job(labels[names.TASK_LABEL], child)
        for child in observed.children
        if child.ref.kind == names.JOB and child.controller == observed.parent.uid
        if names.TASK_LABEL in (labels := child.manifest["metadata"].get("labels", {}))
    ]


def _given_up(observed: Observed, task: Task) -> bool:
    return any(job.task == task.identity and _condition(job, "Failed") for job in _jobs(observed))


def _condition(job: _Job, kind: str) -> bool:
    conditions = job.child.status.get("conditions", [])
    return any(entry["type"] == kind and entry["status"] == "True" for entry in conditions)
