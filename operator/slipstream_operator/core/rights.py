"""Checks of the parts of a service or a build that reach beyond its namespace, which the ServingProfile must allow."""

import fnmatch
import posixpath
from collections.abc import Iterable, Iterator
from typing import Final

from slipstream_operator.api.inferenceservice import InferenceServiceSpec
from slipstream_operator.api.modelbuild import ModelBuildSpec
from slipstream_operator.api.pod import EnvVar, Resources
from slipstream_operator.api.servingprofile import Accelerator, ServingProfileSpec
from slipstream_operator.api.template import Template
from slipstream_operator.core import guarded_variables, references
from slipstream_operator.core.references import Reference
from slipstream_operator.errors import PermanentError
from slipstream_operator.names import Reason

_LABELS: Final = (
    "app",
    "k8s-app",
    "run",
    "name",
    "component",
    "app.kubernetes.io/name",
    "app.kubernetes.io/component",
)
"""Labels by which Services commonly select pods."""
_DIRECTORIES: Final = ("/data", "/mnt", "/models", "/var/lib/slipstream", "/var/models")
"""Directories of nodes in which caches can lie without a right of the profile."""
_NETWORK_DEVICES: Final = (
    "rdma/*",
    "*/rdma*",
    "*/hostdev",
    "vpc.amazonaws.com/efa",
    "networking.gke.io*",
)
"""Extended resources of network devices, which engines on several nodes use."""


def check(
    spec: InferenceServiceSpec, profile: ServingProfileSpec, accelerator: Accelerator, *, name: str
) -> None:
    """Raise PermanentError for the first part that the profile does not allow."""
    _check_template(spec.template, references.secrets(spec), profile, name=name)
    _check_entries(_reaching(spec, accelerator), profile, name=name)


def check_build(spec: ModelBuildSpec, profile: ServingProfileSpec, *, name: str) -> None:
    """Raise PermanentError for the first part of a build that the profile does not allow."""
    template = spec.template.whole() if spec.template else None
    _check_template(template, references.secrets_of_build(spec), profile, name=name)
    if template is not None:
        _check_entries(_placing(template), profile, name=name)


def _check_template(
    template: Template | None,
    secrets: Iterable[Reference],
    profile: ServingProfileSpec,
    *,
    name: str,
) -> None:
    """Raise PermanentError for the first guarded variable, or the first object outside of the profile's lists."""
    _check_variables(template, profile.template.allow if profile.template else (), profile=name)
    _check_listed(
        profile,
        images=_images(template),
        secrets=secrets,
        accounts=references.service_accounts(template),
        name=name,
    )


def _check_entries(
    reaching: Iterable[tuple[str, str, str, str]], profile: ServingProfileSpec, *, name: str
) -> None:
    """Raise PermanentError for the first part whose entry template.allow lacks."""
    allowed = profile.template.allow if profile.template else ()
    for field, value, effect, entry in reaching:
        if not _matches(entry, allowed):
            raise PermanentError(
                Reason.NOT_ALLOWED,
                f'{field}: "{value}" {effect}, and ServingProfile {name} does not allow it. Leave it out, or ask the '
                f'platform team to add "{entry}" to template.allow.',
            )


def _check_listed(
    profile: ServingProfileSpec,
    *,
    images: Iterable[Reference],
    secrets: Iterable[Reference],
    accounts: Iterable[Reference],
    name: str,
) -> None:
    """Raise PermanentError for the first image, Secret or ServiceAccount outside of the profile's lists."""
    allowed_accounts = profile.service_accounts
    for found, what, field_of_profile, patterns in (
        (images, "images", "images", profile.images.allow if profile.images else None),
        (secrets, "Secrets", "secrets", profile.secrets.allow if profile.secrets else None),
        (
            accounts,
            "ServiceAccounts",
            "serviceAccounts",
            allowed_accounts.allow if allowed_accounts else None,
        ),
    ):
        for field, value in found:
            if patterns is not None and not _matches(value, patterns):
                raise PermanentError(
                    Reason.NOT_ALLOWED,
                    f'{field}: "{value}" matches none of the {what} that ServingProfile {name} allows '
                    f"({', '.join(patterns) or 'none'}). Use an allowed one, or ask the platform team to extend "
                    f"{field_of_profile}.allow.",
                )


def _check_variables(template: Template | None, allowed: Iterable[str], *, profile: str) -> None:
    """Raise PermanentError for the first guarded variable that the profile does not allow."""
    for field, variable in _variables(template):
        entry = f"env.{variable.name}"
        if _matches(variable.name.upper(), guarded_variables.PATTERNS) and not _matches(
            entry, allowed
        ):
            raise PermanentError(
                Reason.NOT_ALLOWED,
                f'{field}: "{variable.name}" loads code, redirects connections or reaches devices, and ServingProfile '
                f"{profile} does not allow it. Leave it out, or ask the platform team to add {entry} to "
                "template.allow.",
            )


def _variables(template: Template | None) -> Iterator[tuple[str, EnvVar]]:
    if template is None:
        return
    for variable in template.env or ():
        yield "spec.template.env", variable
    for container in template.init_containers or ():
        for variable in container.env or ():
            yield f"spec.template.initContainers[{container.name}].env", variable


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


def _reaching(
    spec: InferenceServiceSpec, accelerator: Accelerator
) -> Iterator[tuple[str, str, str, str]]:
    """Yield the field, the value, its effect and the entry of template.allow of each part that reaches further."""
    if spec.template is not None:
        yield from _placing(spec.template)
    known = {accelerator.resource_name, *_extended(accelerator.resources)}
    for field, resources in _resources(spec):
        for resource in _extended(resources):
            if resource not in known and not _matches(resource, _NETWORK_DEVICES):
                effect = f"is no resource of accelerator {accelerator.name}"
                yield field, resource, effect, f"resource.{resource}"
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


def _resources(spec: InferenceServiceSpec) -> Iterator[tuple[str, Resources | None]]:
    yield "spec.resources", spec.resources
    for container in (spec.template and spec.template.init_containers) or ():
        yield f"spec.template.initContainers[{container.name}].resources", container.resources


def _extended(resources: Resources | None) -> list[str]:
    """Return the names with a domain, which devices have."""
    if resources is None:
        return []
    return sorted(
        name for name in {*(resources.limits or {}), *(resources.requests or {})} if "/" in name
    )


def _matches(text: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(text, pattern) for pattern in patterns)
