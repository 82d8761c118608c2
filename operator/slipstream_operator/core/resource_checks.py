"""Checks of requests and limits that Kubernetes would refuse in a pod."""

import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Final

from slipstream_operator.api import pod, units
from slipstream_operator.api.inferenceservice import InferenceServiceSpec
from slipstream_operator.api.servingprofile import Accelerator
from slipstream_operator.core.runtimes.runtime import Runtime
from slipstream_operator.errors import PermanentError
from slipstream_operator.names import Reason

_STANDARD: Final = re.compile(r"^(cpu|memory|ephemeral-storage|hugepages-\w+)$")
"""Names of resources without a domain that a container can request."""
_NATIVE: Final = re.compile(r"^([^/]+|([^/]+\.)?kubernetes\.io/.*)$")
"""Names of resources that a node can overcommit. All others are extended resources."""
_BYTES: Final = ("memory", "ephemeral-storage")
_LEAST_BYTES: Final = 1 << 20
"""Least bytes of memory or storage. A smaller size lacks its unit, or has the unit m, which is a thousandth."""


def check(
    spec: InferenceServiceSpec, accelerator: Accelerator, *, profile: str, runtime: Runtime
) -> None:
    """Raise PermanentError for the first problem in the resources of the object or of the accelerator.

    spec.resources may name the engine's own accelerator, whose count is then replaced.
    """
    own = accelerator.resource_name if runtime.uses_accelerator else None
    given = list(_asked(spec))
    if accelerator.resources is not None and runtime.uses_accelerator:
        field = f"ServingProfile {profile}: accelerators[{accelerator.name}].resources"
        given.append((field, accelerator.resources))
    for field, resources in given:
        for problem in problems(resources, but=own):
            raise PermanentError(Reason.INVALID_SPEC, f"{field}.{problem}")


def _asked(spec: InferenceServiceSpec) -> Iterator[tuple[str, pod.Resources]]:
    if spec.resources is not None:
        yield "spec.resources", spec.resources
    for container in (spec.template and spec.template.init_containers) or ():
        if container.resources is not None:
            yield f"spec.template.initContainers[{container.name}].resources", container.resources


def problems(resources: pod.Resources | None, *, but: str | None) -> Iterator[str]:
    """Yield the problems of requests and limits. `but` is a resource that is not checked."""
    if resources is None:
        return
    limits = _sizes(resources.limits, but=but)
    requests = _sizes(resources.requests, but=but)
    for resource in (*limits, *requests):
        if "/" not in resource and not _STANDARD.match(resource):
            yield (
                f'limits: "{resource}" is not a Kubernetes resource. Use cpu, memory, ephemeral-storage, '
                "hugepages-SIZE, or the name of an extended resource with its domain."
            )
    for resource, size in requests.items():
        limit = limits.get(resource)
        exact = not _NATIVE.match(resource) or resource.startswith("hugepages-")
        if exact and limit != size:
            yield (
                f"requests: \"{resource}\" can't differ from its limit because nodes can't overcommit it. Set it "
                "only in limits."
            )
        if limit is not None and size > limit:
            yield (
                f'requests: "{resource}" of {_text(resources.requests, resource)} can\'t be more than its limit of '
                f"{_text(resources.limits, resource)}. Raise the limit, or lower the request."
            )
    for part, sizes, texts in (
        ("limits", limits, resources.limits),
        ("requests", requests, resources.requests),
    ):
        for resource, size in sizes.items():
            if resource in _BYTES and size < _LEAST_BYTES:
                yield (
                    f'{part}: "{resource}" of {_text(texts, resource)} can\'t work because it is less than 1Mi. Use a '
                    "size with its unit, such as 16Gi."
                )
    for resource, size in limits.items():
        if not _NATIVE.match(resource) and size % 1:
            yield (
                f'limits: "{resource}" of {_text(resources.limits, resource)} is not a whole number of devices. '
                "Use an integer."
            )


def _sizes(quantities: pod.Resource | None, *, but: str | None) -> dict[str, Decimal]:
    return {name: units.quantity(size) for name, size in (quantities or {}).items() if name != but}


def _text(quantities: pod.Resource | None, name: str) -> str:
    return (quantities or {})[name]
