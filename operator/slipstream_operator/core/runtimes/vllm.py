"""Runtime vllm. The keys of the configuration are those of slipstream_runtime.engine.config."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from slipstream_operator.api import units
from slipstream_operator.api.inferenceservice import InferenceServiceSpec
from slipstream_operator.api.model import ModelSpec
from slipstream_operator.api.servingprofile import Accelerator
from slipstream_operator.core import (
    combinations,
    engine_arguments,
    offload,
    parallelism,
    routing,
)
from slipstream_operator.core.engine_arguments import Value
from slipstream_operator.core.fit import demands
from slipstream_operator.core.observed import Manifest
from slipstream_operator.core.runtimes import front
from slipstream_operator.core.runtimes.runtime import Inputs, Runtime
from slipstream_operator.errors import PermanentError
from slipstream_operator.names import Reason
from slipstream_runtime import contract

KV_SHARE_OF_MEMORY: Final = Decimal("0.125")
"""Share of the container's memory limit for the KV cache on CPU. Weights and Python use the rest."""
LEAST_SLOTS: Final = 4
"""Adapters of one step that an engine has room for at least."""


def _configure(inputs: Inputs) -> Manifest:
    """Return the configuration of a vLLM engine; PermanentError if vLLM would refuse it."""
    spec, device, split = inputs.spec, inputs.device, inputs.split
    assert spec.model is not None
    cache: dict[str, Any] = {"prefix": True, "compile": device.compiles}
    if spec.cache:
        cache["prefix"] = spec.cache.prefix
        if spec.cache.compile is not None:
            cache["compile"] = spec.cache.compile
    if not device.dedicated:
        cache["kvBytes"] = _kv_bytes(inputs.resources)
    if (offloaded := offload.engine_bytes(spec, split)) is not None:
        cache["offloadBytes"] = offloaded
    if (on_disk := offload.disk_bytes(spec)) is not None:
        cache["offloadDiskBytes"] = on_disk
    arguments = engine_arguments.check(spec)
    if inputs.accelerator.memory_share is not None and device.dedicated:
        cache["gpuMemoryUtilization"] = _share(inputs.accelerator, arguments)
    slots = _slots(spec.model)
    combinations.check(
        combinations.settings(
            spec, device=device, split=split, adapter_slots=slots, arguments=arguments
        )
    )
    config: dict[str, Any] = {
        "model": {
            **front.dump(spec.model, exclude={*front.NOT_OF_THE_ENGINE}),
            "name": inputs.model_name,
        },
        "device": device.name,
        "cache": cache,
        "lingerSeconds": contract.LINGER_SECONDS,
        "drainSeconds": inputs.drain,
    }
    if not device.dedicated:
        config["cores"] = parallelism.cores(spec, split) // split.nodes
    if device.dedicated or split.tensor > 1:
        config["tensorParallel"] = split.tensor
    if split.pipeline > 1:
        config["pipelineParallel"] = split.pipeline
    if split.data > 1:
        config["dataParallel"] = split.data
    if split.nodes > 1:
        config["nodes"] = split.nodes
    for key in ("quantization", "batching", "output", "attention"):
        part = getattr(spec, key)
        if part is not None:
            config[key] = front.dump(part)
    if spec.speculation is not None:
        config["speculation"] = front.dump(
            spec.speculation, exclude={"disable_below_acceptance", "disable_below_gain"}
        )
    if spec.model.load == "Streamed":
        config["load"] = "streamed"
    if slots:
        config["adapters"] = {"slots": slots}
        if spec.model.max_adapter_rank is not None:
            config["adapters"]["rank"] = spec.model.max_adapter_rank
    if arguments:
        config["engineArgs"] = arguments
    if _stores_responses(spec) and not _reaches_store(spec):
        config["reachesStore"] = False
    if (scope := routing.engine_prefix_scope(spec)) is not None:
        config["prefixScope"] = scope
    return config | front.checks(inputs)


def _stores_responses(spec: InferenceServiceSpec) -> bool:
    variables = (spec.template and spec.template.env) or ()
    return any(variable.name == contract.STORE_VARIABLE for variable in variables)


def _reaches_store(spec: InferenceServiceSpec) -> bool:
    """Whether later requests reach the replica that stores a response: by the router, or because there is no other."""
    most = spec.scaling.max_replicas if spec.scaling else spec.replicas
    return routing.mode(spec) == "Router" or most <= 1


def _share(accelerator: Accelerator, arguments: Mapping[str, Value]) -> float:
    """Return the share of a device's memory for one of the engines that share it."""
    share = demands.utilization(accelerator)
    wanted = arguments.get("gpu-memory-utilization")
    if isinstance(wanted, int | float) and wanted > share:
        raise PermanentError(
            Reason.LIMIT_EXCEEDED,
            f"spec.engineArgs.gpu-memory-utilization: {wanted} can't work because engines share a device of "
            f"{accelerator.name}, whose memoryShare of {accelerator.memory_share} leaves {share} for each. Use at "
            f"most {share}, or leave it out.",
        )
    if arguments.get("kv-cache-memory-bytes"):
        raise PermanentError(
            Reason.LIMIT_EXCEEDED,
            f"spec.engineArgs.kv-cache-memory-bytes: {arguments['kv-cache-memory-bytes']} can't work because "
            f"engines share a device of {accelerator.name}, and with it vLLM ignores the share. Leave it out, and "
            f"use a gpu-memory-utilization of at most {share}.",
        )
    return share


def _slots(model: ModelSpec) -> int:
    """Return the adapter slots of one step, with spare slots for adapters that are added later."""
    if model.adapters is None:
        return 0
    return max(LEAST_SLOTS, 1 << (len(model.adapters) - 1).bit_length())


def _kv_bytes(resources: Manifest) -> int:
    memory = resources.get("limits", {}).get("memory") or resources.get("requests", {}).get(
        "memory"
    )
    if memory is None:
        raise PermanentError(
            Reason.INVALID_SPEC,
            "spec.resources.limits.memory: is required with accelerator cpu, because the size of the KV cache "
            "depends on it. Set it here or in the ServingProfile, for example to 8Gi.",
        )
    return int(units.quantity(memory) * KV_SHARE_OF_MEMORY)


def _max_sequences(spec: InferenceServiceSpec) -> int | None:
    """Return what vLLM runs at once, by a field or by an argument; None leaves it to vLLM."""
    arguments = engine_arguments.check(spec)
    found = (
        arguments.get("max-num-active-seqs")
        or (spec.batching and spec.batching.max_sequences)
        or arguments.get("max-num-seqs")
    )
    return found if isinstance(found, int) else None


RUNTIME: Final = Runtime(
    name="vllm",
    module=contract.ENGINE_MODULE,
    images=("vllm",),
    configure=_configure,
    max_sequences=_max_sequences,
    loads_checkpoints=True,
)
