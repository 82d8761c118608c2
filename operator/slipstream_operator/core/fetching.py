"""Models that reach the cache, or are inspected, before an engine binds an accelerator: by a Job of one pod.

A download goes into the claim of `spec.cache.model`; an inspection reads sizes and config.json, where the profile knows
the memory of the accelerator. Engines wait for either; an inspection that fails stops nothing.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

from slipstream_operator import names
from slipstream_operator.api.inferenceservice import InferenceServiceSpec
from slipstream_operator.api.servingprofile import Accelerator, RouterSpec, ServingProfileSpec
from slipstream_operator.core import facts, weights
from slipstream_operator.core.observed import Child, Fetcher, Manifest, Observed
from slipstream_operator.names import Reason

PROGRESS_EVERY: Final = 10.0
"""Seconds between two readings of a download's progress."""
_KIBI: Final = 1024
_KEYS: Final = ("totalBytes", "doneBytes", "bytesPerSecond")


@dataclasses.dataclass(frozen=True)
class Task:
    """One download or inspection, and what its pod needs."""

    model: str | None
    """The model's source; None if its files come another way."""
    draft: str | None
    claim: str | None
    """Claim that is downloaded into; None is an inspection."""
    image: str
    token_secret: tuple[str, str] | None
    credentials: str | None
    template: Manifest
    """The user's overrides of pods that concern network and identity, as core/v1 names them."""
    placement: Manifest
    """Placement of pods without an accelerator, by the profile."""

    @property
    def identity(self) -> str:
        """Eight hexadecimal digits over what is fetched; another image or environment fetches nothing again."""
        text = json.dumps([self.model, self.draft, self.claim])
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    @property
    def uris(self) -> tuple[str, ...]:
        """The sources that the pod reads."""
        return tuple(uri for uri in (self.model, self.draft) if uri is not None)

    @property
    def inspects(self) -> bool:
        """Whether nothing is downloaded."""
        return self.claim is None


@dataclasses.dataclass(frozen=True)
class Fetched:
    """A task that is done, and the report of its pod; None if the pod left none."""

    task: str
    report: str | None = None

    @property
    def text(self) -> str:
        """As it is kept in the cluster."""
        return json.dumps({"task": self.task, "report": self.report}, sort_keys=True)

    @property
    def facts(self) -> facts.Facts | None:
        """Facts about the checkpoints; None if there was no report."""
        return None if self.report is None else facts.parse(self.report)


@dataclasses.dataclass(frozen=True)
class Progress:
    """Bytes of a download as its pod counts them; None is unknown."""

    total: int | None = None
    done: int | None = None
    rate: int | None = None
    """Bytes per second."""


@dataclasses.dataclass(frozen=True)
class Standing:
    """Standing of a task that is not done, in a condition's words."""

    reason: str
    message: str


def load(text: str) -> Fetched | None:
    """Return what an earlier leader kept; None if the text is not that."""
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
) -> Task | None:
    """Return what is to be done before engines start; None if it is nothing."""
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
                "labels",
                "annotations",
            )
            if key in template
        },
        placement=_placement(profile.router or RouterSpec()),
    )


def noted(observed: Observed, known: Fetched | None) -> Fetched | None:
    """Return what is done by now: what the newest pod that succeeded reports, or what was known before."""
    succeeded = [fetcher for fetcher in observed.fetchers if fetcher.phase == "Succeeded"]
    if succeeded:
        newest = max(succeeded, key=lambda fetcher: (fetcher.created, fetcher.name))
        if known is not None and known.task == newest.task and newest.report is None:
            return known
        return Fetched(newest.task, newest.report)
    for job in _jobs(observed):
        # NB: the pod of a finished Job may be gone, and its report with it.
        if _condition(job, "Complete") and job.task not in {f.task for f in observed.fetchers}:
            return known if known and known.task == job.task else Fetched(job.task)
    return known


def is_done(task: Task, fetched: Fetched | None) -> bool:
    """Whether the task needs no Job any more."""
    return fetched is not None and fetched.task == task.identity


def holds(observed: Observed, task: Task | None, fetched: Fetched | None) -> bool:
    """Whether engines wait for the task; an inspection that was given up holds nothing."""
    if task is None or is_done(task, fetched):
        return False
    return not (task.inspects and _given_up(observed, task))


def running(observed: Observed, task: Task) -> Fetcher | None:
    """Return the newest pod that works on the task, if there is one."""
    pods = [
        fetcher
        for fetcher in observed.fetchers
        if fetcher.task == task.identity and not fetcher.deleting
    ]
    return max(pods, key=lambda fetcher: (fetcher.created, fetcher.name), default=None)


def standing(observed: Observed, task: Task, progress: Progress | None) -> Standing:
    """Return how a task stands that is not done."""
    what = " and ".join(task.uris)
    pod = running(observed, task)
    if pod is None:
        return Standing(Reason.FETCHING, f"{what}: waiting for a pod of the download Job.")
    if pod.trouble is not None:
        return Standing(*pod.trouble)
    if task.inspects:
        return Standing(Reason.FETCHING, f"{what}: reading size and configuration.")
    return Standing(Reason.FETCHING, f"{what}: {_in_words(progress or Progress())}")


def parse_progress(content: object) -> Progress:
    """Return the progress in a pod's answer; what is malformed in it is unknown."""
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
    rate = f", {_size(progress.rate)}/s" if progress.rate else ""
    return f"downloading, {share:.0%} of {_size(progress.total)}{rate}."


def _size(number: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if number < _KIBI:
            return f"{number:.0f} B" if unit == "B" else f"{number:.1f} {unit}"
        number /= _KIBI
    return f"{number:.1f} GiB"


def _readable(uri: str | None) -> str | None:
    """Return a source that a pod elsewhere reads: an image would be pulled there as a whole, a file is not there."""
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
    """A Job of the service, by its task."""

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
