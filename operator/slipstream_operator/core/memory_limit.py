"""Default limit of memory of GPU pods, so that an engine that grows is ended before it takes its node's memory.

A wrong limit would end good engines, so it is far above all that a start and the bounds of requests need. It exists
only where that is known: the profile states the memory of the accelerator, and no setting puts more into the pod.
"""

import math
from collections.abc import Mapping
from typing import Final

from slipstream_operator.api import units
from slipstream_operator.api.inferenceservice import InferenceServiceSpec
from slipstream_operator.api.servingprofile import Accelerator
from slipstream_operator.core.observed import Manifest

_GI: Final = 1 << 30
SPARE: Final = 16 * _GI
"""Bytes beside the request and the weights: two caches of media with 4 GiB each, which vLLM sets as their default, and
8 GiB for processes that compile kernels."""
IN_HOST_MEMORY: Final = frozenset(
    {
        "cpu-offload-gb",
        "cpu-offload-params",
        "ec-manager-config",
        "ec-transfer-config",
        "enable-shm-tensor-arena",
        "enable-sleep-mode",
        "kv-offloading-size",
        "kv-transfer-config",
        "load-format",
        "max-cpu-loras",
        "mm-processor-cache-gb",
        "mm-shm-cache-max-object-size-mb",
        "model-loader-extra-config",
        "offload-backend",
        "offload-group-size",
        "offload-num-in-group",
        "offload-params",
        "offload-prefetch-step",
        "safetensors-load-strategy",
        "weight-transfer-config",
    }
)
"""Arguments of vLLM that decide how much memory of the pod weights, KV cache or media take."""


def of(
    spec: InferenceServiceSpec,
    accelerator: Accelerator,
    *,
    gpus: int,
    resources: Manifest,
    requests: Mapping[str, str],
) -> str | None:
    """Return the limit of a pod with this number of GPUs; None without a default limit.

    `resources` are those that the object or the profile sets, `requests` the defaults. The weights of a pod fit into
    its GPUs, and a process that loads them holds at most the part of its own GPU.
    """
    given = {**requests, **resources.get("requests", {})}
    in_volumes = _in_volumes(spec)
    if (
        "memory" in resources.get("limits", {})
        or accelerator.memory is None
        or in_volumes is None
        or not IN_HOST_MEMORY.isdisjoint(spec.engine_args or {})
        or (spec.model is not None and spec.model.load == "Streamed")
    ):
        return None
    weights = gpus * units.quantity(accelerator.memory)
    total = units.quantity(given["memory"]) + weights + SPARE + in_volumes
    return f"{math.ceil(total / _GI)}Gi"


def _in_volumes(spec: InferenceServiceSpec) -> int | None:
    """Return the bytes of the user's volumes in memory, which count for the container; None if one has no limit."""
    total = 0
    for volume in (spec.template and spec.template.volumes) or ():
        if volume.empty_dir is not None and volume.empty_dir.medium == "Memory":
            if volume.empty_dir.size_limit is None:
                return None
            total += int(units.quantity(volume.empty_dir.size_limit))
    return total
