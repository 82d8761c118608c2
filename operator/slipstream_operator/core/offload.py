"""KV cache offload: the combinations that can't work, the engine's share, and the memory that it takes of a pod."""

from collections.abc import Mapping
from typing import Final

from slipstream_operator.api import units
from slipstream_operator.api.inferenceservice import InferenceServiceSpec, OffloadSpec
from slipstream_operator.core.observed import Manifest
from slipstream_operator.core.parallelism import Split
from slipstream_operator.errors import PermanentError
from slipstream_operator.names import Reason

_MEBIBYTE: Final = 2**20
_FIELD: Final = "spec.cache.offload"


def of(spec: InferenceServiceSpec) -> OffloadSpec | None:
    """The offload that the object asks for, if any."""
    return spec.cache.offload if spec.cache else None


def check(spec: InferenceServiceSpec, *, on_cpu: bool) -> None:
    """Raise PermanentError for an offload that the pinned vLLM can't do."""
    offload = of(spec)
    if offload is None:
        return
    problems = []
    if spec.runtime == "simulator":
        problems.append(
            f"{_FIELD}: can't be used with runtime: simulator, which has no KV cache: leave it out"
        )
    elif on_cpu:
        problems.append(
            f"{_FIELD}: can't work on type cpu, whose KV cache is in the same memory already: leave it out"
        )
    if offload.disk is not None:
        problems.append(
            f'{_FIELD}.disk: "{offload.disk}" can\'t work because the disk tier of vLLM 0.32 never deletes a file, so '
            "the kubelet would evict each pod that fills it: leave it out, and raise cpu"
        )
    if spec.cache is not None and not spec.cache.prefix:
        problems.append(
            f"{_FIELD}: needs spec.cache.prefix, since offloaded blocks are found by their prefix: "
            "leave out prefix: false"
        )
    if problems:
        raise PermanentError(Reason.UNSUPPORTED, "; ".join(problems))


def engine_bytes(spec: InferenceServiceSpec, split: Split) -> int | None:
    """Bytes of one engine: those of a replica, shared by the engines of data parallelism."""
    offload = of(spec)
    return None if offload is None else int(units.quantity(offload.cpu) / split.data)


def added(resources: Manifest, spec: InferenceServiceSpec) -> Manifest:
    """Return the profile's resources with the offload's memory on top; memory that the object sets is all there is."""
    offload = of(spec)
    if offload is None:
        return resources
    own = spec.resources
    sizes = {**((own and own.requests) or {}), **((own and own.limits) or {})}
    if "memory" in sizes:
        _check_room(sizes["memory"], offload)
        return resources
    return {kind: requested(quantities, spec) for kind, quantities in resources.items()}


def requested(quantities: Mapping[str, str], spec: InferenceServiceSpec) -> Mapping[str, str]:
    """Return the quantities with the offload's memory on top of their own, if they say any."""
    offload = of(spec)
    if offload is None or "memory" not in quantities:
        return quantities
    total = units.quantity(offload.cpu) + units.quantity(quantities["memory"])
    return {**quantities, "memory": f"{-int(-total // _MEBIBYTE)}Mi"}


def _check_room(memory: str, offload: OffloadSpec) -> None:
    if units.quantity(memory) <= units.quantity(offload.cpu):
        raise PermanentError(
            Reason.INVALID_SPEC,
            f'spec.resources: memory "{memory}" leaves no room beside spec.cache.offload.cpu "{offload.cpu}", which '
            "is part of it: raise it, or leave it out",
        )
