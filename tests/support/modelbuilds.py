"""ModelBuilds, their Jobs and their pods, for tests of the operator."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from slipstream_operator import names
from slipstream_operator.core.builds import resolve
from slipstream_operator.core.builds.resolve import ResolvedBuild
from slipstream_operator.core.observed import (
    Builder,
    Child,
    Key,
    ObservedBuild,
    Parent,
    Profile,
    StageState,
    pack,
)
from slipstream_operator.core.plan import reference
from slipstream_operator.core.render import build as rendering
from tests.support import given

NAME = "small"
KEY = Key(given.NAMESPACE, NAME, names.MODEL_BUILD)
UID = "uid-of-small"
JOB_UID = "uid-of-the-job"
TEXTS = {"configMap": {"name": "texts", "key": "items.jsonl"}}
SPEC: dict[str, Any] = {
    "source": "hf://org/model",
    "steps": [
        {"quantize": {"scheme": "w8a8", "method": "gptq", "calibration": {"dataset": TEXTS}}}
    ],
    "quality": {"dataset": TEXTS, "metrics": [{"name": "ExactMatch", "maxRegression": "1%"}]},
    "output": {"uri": "pvc://models/small"},
}
IMAGES = {**given.PROFILE["images"], "builder": "image/builder:1"}
STAGES = ("source", "0-quantize", "0-quality", "publish")
HASH = "ab" * 32
SOURCE = {
    "stage": "source",
    "seconds": 2.0,
    "peakMemory": 1 << 20,
    "bytes": 4 << 20,
    "revision": "0123abc",
    "sha256": HASH,
    "estimate": {"memory": 1 << 30, "disk": 8 << 20, "seconds": 60},
}
STEP = {
    "stage": "0-quantize",
    "seconds": 30.0,
    "peakMemory": 1 << 30,
    "bytes": 1 << 20,
    "facts": {"modules": 28, "method": "gptq"},
}
QUALITY = {
    "stage": "0-quality",
    "seconds": 8.0,
    "verdict": "Passed",
    "items": 400,
    "metrics": [
        {
            "name": "ExactMatch",
            "candidate": 0.99,
            "baseline": 1.0,
            "lossLow": -0.001,
            "lossHigh": 0.008,
            "verdict": "Passed",
        }
    ],
}
PUBLISHED = {
    "stage": "publish",
    "seconds": 1.0,
    "bytes": 1 << 20,
    "uri": "pvc://models/small",
    "sha256": HASH,
    "files": {"model.safetensors": HASH, "config.json": HASH},
    "omitted": 0,
    "versions": {"torch": "2.13"},
    "datasets": {"items.jsonl": HASH},
}
REPORTS = dict(zip(STAGES, (SOURCE, STEP, QUALITY, PUBLISHED), strict=True))


def profile(**fields: Any) -> Profile:
    """A ServingProfile with an image of the builder, whose builds run on CPUs by default."""
    return given.profile(**{"images": IMAGES, "defaultAccelerator": "cpu", **fields})


def observed(
    spec: Mapping[str, Any] | None = None,
    *,
    status: Mapping[str, Any] | None = None,
    pods: Sequence[Builder] = (),
    job: Mapping[str, Any] | None = None,
    **profile_fields: Any,
) -> ObservedBuild:
    """A ModelBuild; with `job`, the status of its Job, also its children as they were created."""
    parent = Parent(
        key=KEY,
        uid=UID,
        generation=1,
        created=given.CREATED,
        deleting=False,
        packed_spec=pack(SPEC if spec is None else spec),
        packed_status=pack(status or {}),
    )
    found = ObservedBuild(parent, {}, (profile(**profile_fields),), (), tuple(pods))
    if job is None:
        return found
    children = [_child(one, job) for one in rendering.render(resolve.resolve(found))]
    return dataclasses.replace(found, children=tuple(children))


def resolved(spec: Mapping[str, Any] | None = None, **profile_fields: Any) -> ResolvedBuild:
    """The resolved ModelBuild."""
    return resolve.resolve(observed(spec, **profile_fields))


def _child(manifest: Mapping[str, Any], job: Mapping[str, Any]) -> Child:
    is_job = manifest["kind"] == names.JOB
    return Child(
        ref=reference(manifest),
        uid=JOB_UID if is_job else f"uid-of-{manifest['kind']}",
        service="",
        controller=UID,
        deleting=False,
        packed=pack(manifest),
        status=job if is_job else {},
    )


def ended(kind: str, reason: str = "", message: str = "") -> dict[str, Any]:
    """Status of a Job that is Complete or Failed."""
    return {"conditions": [{"type": kind, "status": "True", "reason": reason, "message": message}]}


def stage(name: str, report: object = None, **fields: Any) -> StageState:
    """A finished container; `report` is its message, as text or as JSON."""
    message = report if isinstance(report, str) else json.dumps(report or REPORTS[name])
    return StageState(name, **{"state": "terminated", "exit_code": 0, "message": message, **fields})


def running(name: str) -> StageState:
    """A running container."""
    return StageState(name, "running")


def waiting(*names_of_stages: str) -> list[StageState]:
    """Containers that wait for their turn."""
    return [StageState(name, "waiting") for name in names_of_stages]


def pod(*stages: StageState, name: str = "pod-0", **fields: Any) -> Builder:
    """A pod of the Job."""
    known = {one.name for one in stages}
    rest = waiting(*(one for one in STAGES if one not in known))
    values = {
        "namespace": given.NAMESPACE,
        "name": name,
        "build": NAME,
        "job": JOB_UID,
        "phase": "Pending",  # as long as an init container runs
        "deleting": False,
        "created": given.CREATED,
        "address": "10.0.0.1",
        "stages": (*stages, *rest),
        "trouble": None,
    }
    return Builder(**{**values, **fields})


def finished(**fields: Any) -> Builder:
    """A pod whose stages have all succeeded."""
    return pod(*(stage(name) for name in STAGES), phase="Succeeded", **fields)
