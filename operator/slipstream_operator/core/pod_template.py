"""Checks of spec.template against the names that the operator uses, and its merge with the accelerator's settings.

The CRD has the same rules. These checks refuse objects that were stored before a rule existed.
"""

import dataclasses
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from slipstream_operator.api import build_template, containers, pod, template, volumes
from slipstream_operator.api.base import ApiModel
from slipstream_operator.api.build_template import BuildTemplate
from slipstream_operator.api.inferenceservice import InferenceServiceSpec
from slipstream_operator.api.servingprofile import Accelerator
from slipstream_operator.api.template import Template
from slipstream_operator.core.observed import Manifest
from slipstream_operator.errors import PermanentError
from slipstream_operator.names import Reason
from slipstream_runtime import contract

ASSIGNED_USER: Final = "assignedUser"
"""Key of the merged settings: the cluster assigns the user and the groups of the pods."""
_DNS_LABEL: Final = re.compile("[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_KEY: Final = re.compile(
    r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
)
_VALUE: Final = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_VARIABLE: Final = re.compile("[ -<>-~]+")
_SPELLING: Final = (
    "Use at most 63 characters (a-z, 0-9, -), and start and end with a letter or digit."
)


_VOLUMES: Final = "(claim|image)-[0-9]+"


@dataclasses.dataclass(frozen=True)
class _Taken:
    """Names and paths in the pods that the operator uses itself."""

    user: str = "engine"
    variables: tuple[str, ...] = containers.RESERVED_VARIABLES
    volume_pattern: str = _VOLUMES
    """Pattern of names, besides those that are reserved in all pods."""
    paths: tuple[str, ...] = volumes.RESERVED_PATHS
    token_field: str | None = None
    """Field that gives the token; None if the variable of the token is free."""


def check(spec: InferenceServiceSpec, *, router_account: str | None = None) -> None:
    """Raise PermanentError for the first conflict. `router_account` is the profile's ServiceAccount of routers."""
    if spec.template is None:
        return
    has_token = spec.model is not None and spec.model.token_secret is not None
    _check(
        spec.template,
        _Taken(token_field="spec.model.tokenSecret" if has_token else None),
        router_account=router_account,
    )


def check_build(
    own: BuildTemplate, *, router_account: str | None = None, has_token: bool = False
) -> None:
    """Raise PermanentError for the first conflict of a ModelBuild's template."""
    taken = _Taken(
        user="build",
        variables=(*containers.RESERVED_VARIABLES, *build_template.RESERVED_VARIABLES),
        volume_pattern=f"{_VOLUMES}|{build_template.RESERVED_VOLUMES}",
        paths=(*volumes.RESERVED_PATHS, *build_template.RESERVED_PATHS),
        token_field="spec.tokenSecret" if has_token else None,
    )
    _check(own.whole(), taken, router_account=router_account)


def _check(own: Template, taken: _Taken, *, router_account: str | None) -> None:
    account = own.service_account_name
    if account is not None and account in (contract.ROUTER_NAME, router_account):
        raise PermanentError(
            Reason.INVALID_SPEC,
            f"spec.template.serviceAccountName: \"{account}\" can't be used because its rights are the router's alone. "
            "Use another ServiceAccount.",
        )
    for clash in _clashes(own, taken):
        raise PermanentError(Reason.INVALID_SPEC, f"spec.template.{clash}")


def _clashes(pod_template: Template, taken: _Taken) -> Iterator[str]:
    yield from _metadata(
        "labels",
        pod_template.labels or (),
        reserved=template.RESERVED_LABELS,
        prefixes=template.RESERVED_LABEL_PREFIXES,
    )
    yield from _metadata(
        "annotations",
        (key for key in pod_template.annotations or () if key not in template.FREE_ANNOTATIONS),
        reserved=template.RESERVED_ANNOTATIONS,
        prefixes=template.RESERVED_ANNOTATION_PREFIXES,
    )
    for field, labels in (
        ("labels", pod_template.labels),
        ("nodeSelector", pod_template.node_selector),
    ):
        yield from _labels(field, labels or {})
    yield from _variables("env", pod_template.env or (), taken)
    declared = {volume.name for volume in pod_template.volumes or ()}
    for name in sorted(declared):
        if not _DNS_LABEL.fullmatch(name):
            yield f'volumes: "{name}" is not a valid name of a volume. {_SPELLING}'
        if name in volumes.RESERVED_NAMES or re.fullmatch(taken.volume_pattern, name):
            yield f'volumes: "{name}" is the name of a volume of the operator. Use another name.'
    yield from _mounts("volumeMounts", pod_template.volume_mounts or (), taken, declared=declared)
    for container in pod_template.init_containers or ():
        if not _DNS_LABEL.fullmatch(container.name):
            yield f'initContainers: "{container.name}" is not a valid name of a container. {_SPELLING}'
        reserved = container.name in containers.RESERVED_CONTAINERS
        if reserved or container.name.startswith(containers.RESERVED_PREFIX):
            yield (
                f'initContainers: "{container.name}" is a name that the operator uses. Use another name.'
            )
        where = f"initContainers[{container.name}]"
        yield from _variables(
            f"{where}.env", container.env or (), dataclasses.replace(taken, token_field=None)
        )
        yield from _mounts(
            f"{where}.volumeMounts", container.volume_mounts or (), taken, declared=declared
        )


def _labels(field: str, labels: Mapping[str, str]) -> Iterator[str]:
    for key, value in labels.items():
        if not _KEY.fullmatch(key) or not _VALUE.fullmatch(value):
            yield (
                f'{field}: "{key}: {value}" is not a valid label. Use letters, digits, -, _ and ., and start and '
                "end with a letter or digit."
            )


def _variables(field: str, variables: Iterable[pod.EnvVar], taken: _Taken) -> Iterator[str]:
    for variable in variables:
        name = variable.name
        token = name == contract.MODEL_TOKEN_ENV and taken.token_field is not None
        prefixed = name.startswith(containers.RESERVED_VARIABLE_PREFIXES)
        if token or prefixed or name in taken.variables:
            remedy = (
                f"Leave it out, or leave out {taken.token_field}." if token else "Leave it out."
            )
            yield f'{field}: "{name}" is set by the operator. {remedy}'
        if not _VARIABLE.fullmatch(name):
            yield f'{field}: "{name}" is not a valid name of a variable. Use printable ASCII characters without =.'
        if variable.value_from is None:
            continue
        source = variable.value_from
        sources = [source.secret_key_ref, source.config_map_key_ref]
        if len([one for one in sources if one is not None]) != 1 or variable.value:
            yield (
                f'{field}: "{name}" needs exactly one source of its value. Set value, or valueFrom with one of '
                "secretKeyRef and configMapKeyRef."
            )


def _metadata(
    field: str, keys: Iterable[str], *, reserved: tuple[str, ...], prefixes: tuple[str, ...]
) -> Iterator[str]:
    for key in keys:
        if not _KEY.fullmatch(key):
            yield (
                f'{field}: "{key}" is not a valid key. Use letters, digits, -, _ and ., optionally after a domain '
                "and /."
            )
        if key in reserved or key.startswith(prefixes):
            yield f'{field}: "{key}" is set by the operator. Leave it out.'


def _mounts(
    field: str, mounts: Iterable[volumes.Mount], taken: _Taken, *, declared: set[str]
) -> Iterator[str]:
    for mount in mounts:
        path = posixpath.normpath(f"/{mount.mount_path.lstrip('/')}")
        for ours in taken.paths:
            if f"{path}/".startswith(f"{ours}/") or f"{ours}/".startswith(f"{path}/"):
                yield (
                    f'{field}: "{path}" overlaps {ours}, which the {taken.user} uses. Use another path, such as '
                    "/mnt/data."
                )
        if mount.name not in declared:
            yield (
                f'{field}: "{mount.name}" is not in spec.template.volumes. Add a volume with this name, or correct '
                "the name."
            )


def of(
    spec: InferenceServiceSpec, accelerator: Accelerator, *, assigned_user: bool = False
) -> Manifest:
    """Return the accelerator's pod settings merged with the user's overrides, which win."""
    base: dict[str, Any] = {
        "nodeSelector": accelerator.node_selector or {},
        "tolerations": [_dump(toleration) for toleration in accelerator.tolerations or []],
        "runtimeClassName": accelerator.runtime_class_name,
        ASSIGNED_USER: assigned_user,
    }
    own = spec.template
    if own is not None:
        base["nodeSelector"] = {**base["nodeSelector"], **(own.node_selector or {})}
        base["tolerations"] += [_dump(toleration) for toleration in own.tolerations or []]
        base |= {
            "runtimeClassName": own.runtime_class_name or base["runtimeClassName"],
            "serviceAccountName": own.service_account_name,
            "priorityClassName": own.priority_class_name,
            "labels": own.labels,
            "annotations": own.annotations,
            "env": [_dump(variable) for variable in own.env or []],
            "affinity": _dump(own.affinity) if own.affinity else None,
            "volumes": [_dump(volume) for volume in own.volumes or []],
            "volumeMounts": [_dump(mount) for mount in own.volume_mounts or []],
            "initContainers": [_dump(container) for container in own.init_containers or []],
            "imagePullSecrets": [_dump(secret) for secret in own.image_pull_secrets or []],
            "supplementalGroups": own.supplemental_groups,
            "schedulerName": own.scheduler_name,
        }
    merged = {key: value for key, value in base.items() if value}
    if own is not None and own.topology_spread_constraints is not None:
        merged["topologySpreadConstraints"] = [
            _dump(constraint) for constraint in own.topology_spread_constraints
        ]
    return merged


def of_build(own: BuildTemplate | None, *, assigned_user: bool = False) -> Manifest:
    """Return the overrides of a build's pods."""
    merged: dict[str, Any] = {ASSIGNED_USER: True} if assigned_user else {}
    if own is not None:
        merged |= {key: value for key, value in _dump(own).items() if value}
    return merged


def _dump(model: ApiModel) -> dict[str, Any]:
    return model.model_dump(by_alias=True, exclude_none=True)
