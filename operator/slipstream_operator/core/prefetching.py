"""Prefetch of images: nodes pull the images of the engine and of oci:// sources before engines start.

A Job runs one pod for each possible replica, spread over nodes, without accelerators. Engines don't wait for it.
"""

import dataclasses
import hashlib
import json
from typing import Final

from slipstream_operator import names
from slipstream_operator.api.inferenceservice import InferenceServiceSpec
from slipstream_operator.core import pod_template, weights, wording
from slipstream_operator.core.observed import Child, Fetcher, Manifest, Observed
from slipstream_operator.errors import PermanentError
from slipstream_operator.names import Reason

MOST_PODS: Final = 16
"""Maximum pods of a Job, which bounds the parallel pulls from a registry."""
_PASSED: Final = (
    "nodeSelector",
    "tolerations",
    "runtimeClassName",
    "serviceAccountName",
    "imagePullSecrets",
    pod_template.ASSIGNED_USER,
    "labels",
    "annotations",
)
"""Settings of engine pods that determine their nodes and the credentials for pulls."""
_NODES: Final = "nodeAffinity"
_REQUIRED: Final = "requiredDuringSchedulingIgnoredDuringExecution"


@dataclasses.dataclass(frozen=True)
class Prefetch:
    """Images to pull, and the settings of the pods that pull them."""

    model: str | None
    """oci:// source of the model; None if the source is of another kind."""
    draft: str | None
    image: str
    """Image of the engine, which the pods run."""
    pods: int
    template: Manifest
    """Settings of the engine pods that determine nodes and pulls, as core/v1 names them."""

    @property
    def identity(self) -> str:
        """Return eight hexadecimal digits of a hash over all fields."""
        text = json.dumps(dataclasses.asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    @property
    def uris(self) -> tuple[str, ...]:
        """Return the sources without duplicates."""
        return tuple(sorted({uri for uri in (self.model, self.draft) if uri is not None}))


def of(
    spec: InferenceServiceSpec,
    *,
    image: str,
    template: Manifest,
    pods: int,
    anywhere: bool,
    profile: str,
    from_builds: bool = False,
) -> Prefetch | None:
    """Return the prefetch; None if there is nothing to pull. Raise PermanentError if the nodes are unknown.

    `from_builds` says that a ModelBuild published the model or its draft. `pods` is the maximum number of engine pods.
    `anywhere` means that engines can run on any node.
    """
    if spec.cache is None or not spec.cache.prefetch:
        return None
    images = weights.images(spec) or ()
    affinity = template.get("affinity", {}).get(_NODES, {})
    if not (anywhere or template.get("nodeSelector") or _REQUIRED in affinity):
        raise PermanentError(
            Reason.UNSUPPORTED,
            "spec.cache.prefetch: true can't work because only the accelerator determines the nodes, and pods "
            "without an accelerator would run on all nodes. Set accelerators[].nodeSelector in ServingProfile "
            f"{profile}, or spec.template.nodeSelector.",
        )
    if not images and from_builds and not any(map(weights.is_unknown, weights.models(spec))):
        raise PermanentError(
            Reason.UNSUPPORTED,
            "spec.cache.prefetch: true can't work because the build publishes no image, and nodes can pull only images "
            "ahead. Publish it to oci://, or leave out prefetch.",
        )
    if not images or not pods:
        return None
    model = spec.model.uri if spec.model else None
    draft = spec.speculation.draft if spec.speculation else None
    passed = {key: template[key] for key in _PASSED if key in template}
    return Prefetch(
        model=model if model in images else None,
        draft=draft if draft in images else None,
        image=image,
        pods=min(pods, MOST_PODS),
        template={**passed, _NODES: affinity} if affinity else passed,
    )


def progress(observed: Observed, prefetch: Prefetch) -> str:
    """Return the progress of the prefetch as a sentence."""
    pods = [pod for pod in observed.prefetchers if pod.task == prefetch.identity]
    done = len({pod.node for pod in pods if pod.phase == "Succeeded" and pod.node})
    ended = _ended(observed, prefetch)
    if ended is not None and ended["type"] == "Complete":
        return f"Prefetch: done on {wording.counted(done, 'node')}."
    said = f"Prefetch: {done} of {wording.agreeing(prefetch.pods, 'node has', 'nodes have')} the images"
    if trouble := _trouble(pods):
        return f"{said}, {trouble[0]}: {trouble[1]}"
    if ended is not None:
        return f"{said}, {ended.get('reason', 'Failed')}: {ended.get('message', 'the Job failed')}"
    return f"{said}."


def _trouble(pods: list[Fetcher]) -> tuple[str, str] | None:
    """Return the reason and message of the newest pod that is in trouble. A pod that was replaced is none."""
    by_age = sorted(pods, key=lambda pod: (pod.created, pod.name))
    current = {pod.index: pod for pod in by_age}.values()
    troubled = [pod for pod in current if pod.trouble is not None and pod.phase != "Succeeded"]
    newest = max(troubled, key=lambda pod: (pod.created, pod.name), default=None)
    return newest.trouble if newest is not None else None


def _ended(observed: Observed, prefetch: Prefetch) -> Manifest | None:
    """Return the condition by which the Job ended, if it has."""
    for child in observed.children:
        if _is_its_job(child, prefetch, uid=observed.parent.uid):
            for condition in child.status.get("conditions", []):
                if condition["type"] in ("Complete", "Failed") and condition["status"] == "True":
                    found: Manifest = condition
                    return found
    return None


def _is_its_job(child: Child, prefetch: Prefetch, *, uid: str) -> bool:
    labels = child.manifest["metadata"].get("labels", {})
    return (
        child.ref.kind == names.JOB
        and child.controller == uid
        and labels.get(names.COMPONENT_LABEL) == names.PREFETCH_COMPONENT
        and labels.get(names.TASK_LABEL) == prefetch.identity
    )
