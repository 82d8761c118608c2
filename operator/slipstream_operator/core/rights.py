"""Checks of the parts of a service that reach beyond its namespace, which the ServingProfile must allow."""

import fnmatch
import posixpath
from collections.abc import Iterable, Iterator
from typing import Final

from slipstream_operator.api.inferenceservice import InferenceServiceSpec
from slipstream_operator.api.servingprofile import ServingProfileSpec
from slipstream_operator.api.template import Template
from slipstream_operator.errors import PermanentError
from slipstream_operator.names import Reason

_LABELS: Final = ("app", "k8s-app", "app.kubernetes.io/name", "app.kubernetes.io/component")
"""Labels by which Services commonly select pods."""
_DIRECTORIES: Final = ("/data", "/mnt", "/models", "/var/lib/slipstream", "/var/models")
"""Directories of nodes in which caches can lie without a right of the profile."""


def check(spec: InferenceServiceSpec, profile: ServingProfileSpec, *, name: str) -> None:
    """Raise PermanentError for the first part that the profile does not allow."""
    images = profile.images.allow if profile.images else None
    if images is not None:
        for field, image in _images(spec.template):
            if not _matches(image, images):
                raise PermanentError(
                    Reason.NOT_ALLOWED,
                    f'{field}: "{image}" matches none of the images that ServingProfile {name} allows '
                    f"({', '.join(images)}). Use an allowed image, or ask the platform team to extend images.allow.",
                )
    allowed = profile.template.allow if profile.template else ()
    for field, value, effect, entry in _reaching(spec):
        if not _matches(entry, allowed):
            raise PermanentError(
                Reason.NOT_ALLOWED,
                f'{field}: "{value}" {effect}, and ServingProfile {name} does not allow it. Leave it out, or ask the '
                f'platform team to add "{entry}" to template.allow.',
            )


def _images(template: Template | None) -> Iterator[tuple[str, str]]:
    if template is None:
        return
    if template.image is not None:
        yield "spec.template.image", template.image
    for container in template.init_containers or ():
        yield f"spec.template.initContainers[{container.name}].image", container.image
    for volume in template.volumes or ():
        source = volume.model_dump(by_alias=True, exclude_none=True).get("image") or {}
        if reference := source.get("reference"):
            yield f"spec.template.volumes[{volume.name}].image.reference", reference


def _reaching(spec: InferenceServiceSpec) -> Iterator[tuple[str, str, str, str]]:
    """Yield the field, the value, its effect and the entry of template.allow of each part that reaches further."""
    if spec.template is not None:
        yield from _placing(spec.template)
    kept = spec.cache.model if spec.cache else None
    if kept is not None and kept.host_path is not None:
        path = kept.host_path.path
        real = posixpath.normpath(f"/{path.lstrip('/')}")
        if not any(f"{real}/".startswith(f"{directory}/") for directory in _DIRECTORIES):
            effect = f"is a directory of the node outside of {', '.join(_DIRECTORIES)}"
            yield "spec.cache.model.hostPath.path", path, effect, f"hostPath.{real}"


def _placing(template: Template) -> Iterator[tuple[str, str, str, str]]:
    for label in template.labels or {}:
        if label in _LABELS:
            effect = "is a label by which other Services can select the pods"
            yield "spec.template.labels", label, effect, f"label.{label}"
    priority = template.priority_class_name
    if priority is not None and priority.startswith("system-"):
        effect = "is reserved for the pods of the cluster"
        yield "spec.template.priorityClassName", priority, effect, f"priorityClass.{priority}"
    for toleration in template.tolerations or ():
        key = toleration.key or "*"
        if key == "*" or key.startswith("node-role.kubernetes.io/"):
            effect = "tolerates the taints of nodes that run the cluster"
            yield "spec.template.tolerations", key, effect, f"toleration.{key}"


def _matches(text: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(text, pattern) for pattern in patterns)
