"""Images that nodes pull before an engine binds an accelerator of theirs: the engine's, and those of oci:// sources.

A node keeps images by itself, without a hostPath and its privileges. A Job runs one pod for each replica that may come,
spread over nodes. It asks for no accelerator, and no engine waits for it.
"""

import dataclasses
import hashlib
import json
from typing import Final

from slipstream_operator import names
from slipstream_operator.api.inferenceservice import InferenceServiceSpec
from slipstream_operator.core import weights
from slipstream_operator.core.observed import Child, Fetcher, Manifest, Observed
from slipstream_operator.errors import PermanentError
from slipstream_operator.names import Reason

MOST_PODS: Final = 16
"""Pods of a Job: more nodes would pull from a registry at once."""
_PASSED: Final = (
    "nodeSelector",
    "tolerations",
    "runtimeClassName",
    "serviceAccountName",
    "imagePullSecrets",
    "labels",
    "annotations",
)
"""Settings of engine pods that decide on which nodes they run, and what those may pull."""
_NODES: Final = "nodeAffinity"
_REQUIRED: Final = "requiredDuringSchedulingIgnoredDuringExecution"


@dataclasses.dataclass(frozen=True)
class Prefetch:
    """Images to be pulled, and the pods that have nodes do so."""

    model: str | None
    """The model's oci:// source; None if it is of another kind."""
    draft: str | None
    image: str
    """The engine's: its pods are what pulls the others."""
    pods: int
    template: Manifest
    """Settings of the engine pods that concern nodes and pulls, as core/v1 names them."""

    @property
    def identity(self) -> str:
        """Eight hexadecimal digits over all of it."""
        text = json.dumps(dataclasses.asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    @property
    def uris(self) -> tuple[str, ...]:
        """The sources, each once."""
        return tuple(sorted({uri for uri in (self.model, self.draft) if uri is not None}))


def of(
    spec: InferenceServiceSpec,
    *,
    image: str,
    template: Manifest,
    pods: int,
    anywhere: bool,
    profile: str,
) -> Prefetch | None:
    """Return what is to be pulled; None if it is nothing, PermanentError if the nodes for it can't be known.

    `pods` is the most that may serve; `anywhere` says whether engines run on any node.
    """
    if spec.cache is None or not spec.cache.prefetch:
        return None
    images = weights.images(spec) or ()
    affinity = template.get("affinity", {}).get(_NODES, {})
    if not (anywhere or template.get("nodeSelector") or _REQUIRED in affinity):
        raise PermanentError(
            Reason.UNSUPPORTED,
            "spec.cache.prefetch: true can't work because nothing but the accelerator says which nodes are meant, and "
            "pods without one would run on all. "
            f"Set accelerators[].nodeSelector in ServingProfile {profile}, or spec.template.nodeSelector.",
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


def standing(observed: Observed, prefetch: Prefetch) -> str:
    """Return how many nodes have the images, and what keeps others from it, in words."""
    pods = [pod for pod in observed.prefetchers if pod.task == prefetch.identity]
    done = len({pod.node for pod in pods if pod.phase == "Succeeded" and pod.node})
    ended = _ended(observed, prefetch)
    if ended is not None and ended["type"] == "Complete":
        return f"Prefetch: done, on {done} {'node' if done == 1 else 'nodes'}."
    said = f"Prefetch: {done} of {prefetch.pods} nodes have the images"
    if trouble := _trouble(pods):
        return f"{said}, {trouble[0]}: {trouble[1]}"
    if ended is not None:
        return f"{said}, {ended.get('reason', 'Failed')}: {ended.get('message', 'the Job failed')}"
    return f"{said}."


def _trouble(pods: list[Fetcher]) -> tuple[str, str] | None:
    """Return the reason and message of the newest pod that is in trouble."""
    troubled = [pod for pod in pods if pod.trouble is not None and pod.phase != "Succeeded"]
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
