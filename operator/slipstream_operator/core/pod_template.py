"""spec.template beside what the operator puts into the pods itself: clashes are refused.

The API server refuses the same by the rules of the CRD; an object that is older than a rule meets it here.
"""

import re
from collections.abc import Iterable, Iterator

from slipstream_operator.api import containers, template, volumes
from slipstream_operator.api.inferenceservice import InferenceServiceSpec
from slipstream_operator.api.template import Template
from slipstream_operator.errors import PermanentError
from slipstream_operator.names import Reason
from slipstream_runtime import contract


def check(spec: InferenceServiceSpec) -> None:
    """Raise PermanentError for the first clash."""
    if spec.template is None:
        return
    token = (contract.MODEL_TOKEN_ENV,) if spec.model and spec.model.token_secret else ()
    for clash in _clashes(spec.template, variables=(*containers.RESERVED_VARIABLES, *token)):
        raise PermanentError(Reason.INVALID_SPEC, f"spec.template.{clash}")


def _clashes(asked: Template, *, variables: Iterable[str]) -> Iterator[str]:
    yield from _metadata("labels", asked.labels or (), reserved=template.RESERVED_LABELS)
    yield from _metadata(
        "annotations", asked.annotations or (), reserved=template.RESERVED_ANNOTATIONS
    )
    for variable in asked.env or ():
        if variable.name in variables:
            remedy = (
                "leave it out, or leave out spec.model.tokenSecret"
                if variable.name == contract.MODEL_TOKEN_ENV
                else "leave it out"
            )
            yield f'env: "{variable.name}" can\'t be set because the operator sets it: {remedy}'
    declared = {volume.name for volume in asked.volumes or ()}
    for name in declared:
        if name in volumes.RESERVED_NAMES or re.fullmatch("(claim|image)-[0-9]+", name):
            yield (
                f'volumes: "{name}" can\'t be used because the operator makes a volume of this name: '
                "choose another name"
            )
    yield from _mounts("volumeMounts", asked.volume_mounts or (), declared=declared)
    for container in asked.init_containers or ():
        taken = container.name in containers.RESERVED_CONTAINERS
        if taken or container.name.startswith(containers.RESERVED_PREFIX):
            yield (
                f'initContainers: "{container.name}" can\'t be used because the operator uses this name: '
                "choose another"
            )
        where = f"initContainers[{container.name}].volumeMounts"
        yield from _mounts(where, container.volume_mounts or (), declared=declared)


def _metadata(field: str, keys: Iterable[str], *, reserved: tuple[str, ...]) -> Iterator[str]:
    for key in keys:
        if key in reserved or key.startswith(template.RESERVED_DOMAIN):
            yield f'{field}: "{key}" can\'t be set because the operator sets it: leave it out'


def _mounts(field: str, mounts: Iterable[volumes.Mount], *, declared: set[str]) -> Iterator[str]:
    for mount in mounts:
        path = mount.mount_path
        for ours in volumes.RESERVED_PATHS:
            if f"{path}/".startswith(f"{ours}/") or f"{ours}/".startswith(f"{path}/"):
                yield (
                    f'{field}: "{path}" can\'t be used because it overlaps {ours}, which the engine uses: '
                    "choose another path, such as /mnt/data"
                )
        if mount.name not in declared:
            yield (
                f'{field}: "{mount.name}" is no volume of spec.template.volumes: add a volume of that name, '
                "or correct it"
            )
