"""Offload of KV cache blocks: checks, the share of an engine, and the memory and disk of a pod."""

from collections.abc import Mapping
from typing import Final

from slipstream_operator.api import units
from slipstream_operator.api.cache import OffloadSpec
from slipstream_operator.api.inferenceservice import InferenceServiceSpec
from slipstream_operator.core.devices import Device, Feature
from slipstream_operator.core.observed import Manifest
from slipstream_operator.core.parallelism import Split
from slipstream_operator.core.runtimes.runtime import Runtime
from slipstream_operator.errors import PermanentError
from slipstream_operator.names import Reason

_MEBIBYTE: Final = 2**20
LEAST_BYTES: Final = 64 * _MEBIBYTE
"""Space for a few blocks of a small model. A smaller size is probably a forgotten unit."""
_FIELD: Final = "spec.cache.offload"


def of(spec: InferenceServiceSpec) -> OffloadSpec | None:
    """Return the offload that the object sets; None if it sets none."""
    return spec.cache.offload if spec.cache else None


def check(spec: InferenceServiceSpec, *, runtime: Runtime, device: Device) -> None:
    """Raise PermanentError for an offload that the pinned vLLM does not support."""
    offload = of(spec)
    if offload is None:
        return
    problems = []
    if not runtime.needs_model:
        problems.append(
            f"{_FIELD}: can't be used with runtime: {runtime.name}, which has no KV cache. Leave it out."
        )
    elif (reason := device.lacks.get(Feature.OFFLOAD)) is not None:
        problems.append(f"{_FIELD}: can't work because {reason}. Leave it out.")
    if spec.cache is not None and not spec.cache.prefix:
        problems.append(
            f"{_FIELD}: needs spec.cache.prefix because blocks are found by their prefix. Leave out prefix: false."
        )
    for field, size in (("cpu", offload.cpu), ("disk", offload.disk)):
        if size is not None and units.quantity(size) < LEAST_BYTES:
            problems.append(
                f'{_FIELD}.{field}: "{size}" is too small for a block. Use at least {LEAST_BYTES // _MEBIBYTE}Mi, '
                "such as 20Gi."
            )
    if problems:
        raise PermanentError(Reason.UNSUPPORTED, " ".join(problems))


def engine_bytes(spec: InferenceServiceSpec, split: Split) -> int | None:
    """Return the bytes of one engine. Data-parallel engines share the bytes of a replica."""
    offload = of(spec)
    return None if offload is None else int(units.quantity(offload.cpu) / split.data)


def disk(spec: InferenceServiceSpec) -> str | None:
    """Return the size of the volume for blocks on disk, as a quantity; None without one."""
    offload = of(spec)
    return offload.disk if offload else None


def disk_bytes(spec: InferenceServiceSpec) -> int | None:
    """Return the bytes of the disk of a pod, which its engines share."""
    size = disk(spec)
    return None if size is None else int(units.quantity(size))


def added(resources: Manifest, spec: InferenceServiceSpec) -> Manifest:
    """Return the resources plus those of the offload. Resources that the object sets stay as they are."""
    offload = of(spec)
    if offload is None:
        return resources
    own = spec.resources
    sizes = {**((own and own.requests) or {}), **((own and own.limits) or {})}
    for name, field, extra in (
        ("memory", "cpu", offload.cpu),
        ("ephemeral-storage", "disk", offload.disk),
    ):
        if name in sizes and extra is not None:
            _check_room(name, sizes[name], field, extra)
    return {
        kind: {
            **quantities,
            **{
                name: size
                for name, size in requested(quantities, spec).items()
                if name not in sizes
            },
        }
        for kind, quantities in resources.items()
    }


def requested(quantities: Mapping[str, str], spec: InferenceServiceSpec) -> Mapping[str, str]:
    """Return the quantities of memory and disk plus those of the offload."""
    offload = of(spec)
    if offload is None:
        return quantities
    more = {"memory": offload.cpu, "ephemeral-storage": offload.disk}
    return {
        name: size if (extra := more.get(name)) is None else _sum(size, extra)
        for name, size in quantities.items()
    }


def _sum(size: str, extra: str) -> str:
    total = units.quantity(size) + units.quantity(extra)
    return f"{-int(-total // _MEBIBYTE)}Mi"


def _check_room(name: str, size: str, field: str, extra: str) -> None:
    if units.quantity(size) <= units.quantity(extra):
        raise PermanentError(
            Reason.INVALID_SPEC,
            f'spec.resources: {name} "{size}" must be more than {_FIELD}.{field} "{extra}", which it includes. '
            "Raise it, or leave it out.",
        )
