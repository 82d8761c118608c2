"""Requests and limits of the engine container: from the object, the profile, or built-in defaults.

The default requests of GPU pods are not part of the revision. So a size that becomes known, or other defaults of a
newer operator, restart no engine.
"""

import math
from collections.abc import Mapping
from typing import Any, Final

from slipstream_operator.api import pod, units
from slipstream_operator.api.inferenceservice import InferenceServiceSpec
from slipstream_operator.api.servingprofile import Accelerator
from slipstream_operator.core import offload
from slipstream_operator.core.observed import Manifest
from slipstream_operator.core.runtimes.runtime import Runtime
from slipstream_operator.errors import PermanentError
from slipstream_operator.names import Reason

_GI: Final = 1 << 30
_DISK: Final = "ephemeral-storage"
CORES: Final = 2
"""Cores of the API server and the engine core, which are both busy at full load."""
CORES_PER_GPU: Final = 1
"""Core of a GPU's worker, which polls. Together with CORES it is the minimum that vLLM recommends, and it fits on a
cloud's smallest GPU node, which has 4 cores. There is no limit, so engines can use idle cores."""
MEMORY: Final = 4 * _GI
"""Bytes of the API server, the engine core and the tokenizer: about 2 GiB, and 2 GiB that requests may take there.
"""
MEMORY_PER_GPU: Final = 2 * _GI
"""Bytes of a GPU's worker: PyTorch, the CUDA context, pinned buffers and its queues in /dev/shm."""
SHARD: Final = 5 * _GI
"""Bytes of the largest file of most checkpoints. A worker reads one file at a time."""
WEIGHTS: Final = 16 * _GI
"""Bytes of a checkpoint of unknown size: 8 billion parameters in bfloat16."""
DISK: Final = 10 * _GI
"""Bytes of compiled kernels, logs and temporary files."""


def configured(
    spec: InferenceServiceSpec, accelerator: Accelerator, count: int, *, runtime: Runtime
) -> Manifest:
    """Return the resources of the object or the profile, plus the accelerators."""
    device = runtime.device(accelerator)
    if runtime.resources is not None:
        chosen = _plain(spec.resources or runtime.resources)
    elif not device.dedicated:
        chosen = _plain(spec.resources or accelerator.resources or device.default_resources)
        limit = chosen["limits"].get("cpu", str(count))
        least = min(limit, str(count), key=units.quantity)
        chosen["requests"].setdefault("cpu", least)
    else:
        chosen = _merge(_plain(spec.resources), _plain(accelerator.resources))
        if accelerator.resource_name:
            for kind in chosen.values():
                kind[accelerator.resource_name] = str(count)
    return _tidy(chosen)


def defaults(
    *, gpus: int, weights_bytes: int | None, downloads: bool, keeps_cache: bool
) -> Mapping[str, str]:
    """Return the default requests of a GPU pod, for resources that neither the object nor the profile sets.

    `weights_bytes` is the size of all checkpoints, None if unknown. `downloads` says whether the pod writes them to its
    own disk. `keeps_cache` says whether downloads and compiled kernels go to a volume that outlives the pod.
    """
    weights = WEIGHTS if weights_bytes is None else weights_bytes
    memory = MEMORY + gpus * MEMORY_PER_GPU + min(weights, gpus * SHARD)
    disk = DISK + (weights if downloads and not keeps_cache else 0)
    return {
        "cpu": str(CORES + gpus * CORES_PER_GPU),
        "memory": _gibibytes(memory),
        _DISK: _gibibytes(disk),
    }


def check_disk(resources: Manifest, spec: InferenceServiceSpec, downloaded: int) -> None:
    """Raise PermanentError if a pod's limit of disk is less than its downloads, because it would be evicted."""
    limit = resources.get("limits", {}).get(_DISK)
    if limit is None:
        return
    left = units.quantity(limit) - (offload.disk_bytes(spec) or 0)
    if left < downloaded:
        raise PermanentError(
            Reason.DOES_NOT_FIT,
            f'spec.resources.limits: "{_DISK}" of {limit} can\'t work because the pod downloads '
            f"{_gibibytes(downloaded)} to its own disk, and would be evicted. Raise the limit, leave it out, or "
            "keep downloads in spec.cache.model.",
        )


def complete(
    resources: Manifest, requests: Mapping[str, str], *, memory_limit: str | None = None
) -> dict[str, Any]:
    """Return the resources plus the requests for resources that have neither a request nor a limit, and the limit."""
    known = _known(resources)
    added = {name: size for name, size in requests.items() if name not in known}
    limits = {} if memory_limit is None else {"memory": memory_limit}
    return _tidy(
        {
            "limits": {**limits, **resources.get("limits", {})},
            "requests": {**resources.get("requests", {}), **added},
        }
    )


def _merge(first: dict[str, dict[str, str]], second: dict[str, dict[str, str]]) -> Any:
    """Merge by resource. Request and limit of a resource come from one source, so that no request exceeds its limit."""
    known = _known(first)
    return {
        kind: {
            **{name: size for name, size in second[kind].items() if name not in known},
            **first[kind],
        }
        for kind in ("limits", "requests")
    }


def _known(resources: Manifest) -> set[str]:
    return {*resources.get("limits", {}), *resources.get("requests", {})}


def _plain(resources: pod.Resources | None) -> dict[str, dict[str, str]]:
    return {
        "limits": dict((resources and resources.limits) or {}),
        "requests": dict((resources and resources.requests) or {}),
    }


def _tidy(resources: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    return {kind: dict(sorted(sizes.items())) for kind, sizes in resources.items() if sizes}


def _gibibytes(size: int) -> str:
    return f"{math.ceil(size / _GI)}Gi"
