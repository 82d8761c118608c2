"""Engine configuration files: from a service's spec to what slipstream_runtime reads.

The keys are those of `config` in the packages `engine`, `onnx` and `simulator` of `slipstream_runtime`; a test feeds
these there.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from slipstream_operator.api import units
from slipstream_operator.api.inferenceservice import InferenceServiceSpec
from slipstream_operator.api.model import ModelSpec
from slipstream_operator.api.runtimes.simulator import SimulatorSpec
from slipstream_operator.api.servingprofile import Accelerator
from slipstream_operator.core import combinations, engine_arguments, offload, routing
from slipstream_operator.core.engine_arguments import Value
from slipstream_operator.core.fit import demands
from slipstream_operator.core.observed import Manifest
from slipstream_operator.core.parallelism import Split
from slipstream_operator.errors import PermanentError
from slipstream_operator.names import Reason
from slipstream_runtime import contract

CPU: Final = "cpu"
"""The accelerator type whose count is cores and whose KV cache lies in the container's memory."""
KV_SHARE_OF_MEMORY: Final = Decimal("0.125")
"""On CPU, weights, Python and the KV cache share the container's limit: an eighth of it is for the cache."""

LEAST_SLOTS: Final = 4
_NOT_OF_THE_ENGINE: Final = {
    "token_secret",
    "credentials",
    "load",
    "adapters",
    "max_adapter_rank",
}
"""Of spec.model: the token comes as a variable, adapters as a list that may change."""


def vllm(
    spec: InferenceServiceSpec,
    *,
    model_name: str,
    accelerator: Accelerator,
    split: Split,
    resources: Manifest,
    drain: int = contract.DRAIN_SECONDS,
) -> Manifest:
    """Configuration of a vLLM engine; PermanentError if vLLM would refuse it."""
    assert spec.model is not None
    on_cpu = accelerator.name == CPU
    cache: dict[str, Any] = {"prefix": True, "compile": not on_cpu}
    if spec.cache:
        cache["prefix"] = spec.cache.prefix
        if spec.cache.compile is not None:
            cache["compile"] = spec.cache.compile
    if on_cpu:
        cache["kvBytes"] = _kv_bytes(resources)
    if (offloaded := offload.engine_bytes(spec, split)) is not None:
        cache["offloadBytes"] = offloaded
    if (on_disk := offload.disk_bytes(spec)) is not None:
        cache["offloadDiskBytes"] = on_disk
    arguments = engine_arguments.check(spec)
    if accelerator.memory_share is not None and not on_cpu:
        cache["gpuMemoryUtilization"] = _share(accelerator, arguments)
    slots = _slots(spec.model)
    combinations.check(
        combinations.asked(
            spec, on_cpu=on_cpu, split=split, adapter_slots=slots, arguments=arguments
        )
    )
    config: dict[str, Any] = {
        "model": {**_dump(spec.model, exclude=_NOT_OF_THE_ENGINE), "name": model_name},
        "device": "cpu" if on_cpu else "cuda",
        "cache": cache,
        "lingerSeconds": contract.LINGER_SECONDS,
        "drainSeconds": drain,
    }
    if on_cpu:
        config["cores"] = cores(spec, split) // split.nodes
    if not on_cpu or split.tensor > 1:
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
            config[key] = _dump(part)
    if spec.speculation is not None:
        config["speculation"] = _dump(spec.speculation, exclude={"disable_below_acceptance"})
    if spec.model.load == "Streamed":
        config["load"] = "streamed"
    if slots:
        config["adapters"] = {"slots": slots}
        if spec.model.max_adapter_rank is not None:
            config["adapters"]["rank"] = spec.model.max_adapter_rank
    if arguments:
        config["engineArgs"] = arguments
    return config | _front(spec)


def cores(spec: InferenceServiceSpec, split: Split) -> int:
    """Cores of a replica on CPU: at least one for each of its pods."""
    return max(spec.accelerator.count if spec.accelerator else 1, split.nodes)


def _share(accelerator: Accelerator, arguments: Mapping[str, Value]) -> float:
    """Return the share of a device that one of several engines on it may take."""
    share = demands.utilization(accelerator)
    wanted = arguments.get("gpu-memory-utilization")
    if isinstance(wanted, int | float) and wanted > share:
        raise PermanentError(
            Reason.LIMIT_EXCEEDED,
            f"spec.engineArgs.gpu-memory-utilization: {wanted} can't work because engines share a device of "
            f"{accelerator.name}, whose memoryShare of {accelerator.memory_share} leaves each {share}. "
            "Use at most that, or leave it out.",
        )
    if arguments.get("kv-cache-memory-bytes"):
        raise PermanentError(
            Reason.LIMIT_EXCEEDED,
            f"spec.engineArgs.kv-cache-memory-bytes: {arguments['kv-cache-memory-bytes']} can't work because engines "
            f"share a device of {accelerator.name}, and with it vLLM keeps to no share of it. Leave it out, and "
            f"use gpu-memory-utilization of at most {share}.",
        )
    return share


def _slots(model: ModelSpec) -> int:
    """Return the number of adapters of one step, with room for more without a restart."""
    if model.adapters is None:
        return 0
    return max(LEAST_SLOTS, 1 << (len(model.adapters) - 1).bit_length())


def onnx(
    spec: InferenceServiceSpec,
    *,
    model_name: str,
    accelerator: Accelerator,
    drain: int = contract.DRAIN_SECONDS,
) -> Manifest:
    """Configuration of an ONNX Runtime engine; PermanentError if it can't be run so."""
    assert spec.model is not None
    if spec.engine_args:
        raise PermanentError(
            Reason.UNSUPPORTED,
            "spec.engineArgs: can't be used with runtime: onnx, which is not vLLM: leave out one of them",
        )
    on_cpu = accelerator.name == CPU
    count = spec.accelerator.count if spec.accelerator else 1
    config: dict[str, Any] = {
        "model": {
            **_dump(spec.model, exclude=_NOT_OF_THE_ENGINE | {"trust_remote_code"}),
            "name": model_name,
        },
        "device": "cpu" if on_cpu else "cuda",
        "lingerSeconds": contract.LINGER_SECONDS,
        "drainSeconds": drain,
    }
    if on_cpu:
        config["cores"] = count
    elif count > 1:
        raise PermanentError(
            Reason.UNSUPPORTED,
            f"spec.accelerator.count: {count} is more than the one GPU that a replica uses with runtime: onnx: "
            "leave it out, and raise replicas",
        )
    if spec.cache and spec.cache.compile:
        if on_cpu:
            raise PermanentError(
                Reason.UNSUPPORTED,
                "spec.cache.compile: true means TensorRT with runtime: onnx, which type cpu can't run: leave it out",
            )
        if not (spec.template and spec.template.image):
            raise PermanentError(
                Reason.UNSUPPORTED,
                "spec.cache.compile: true means TensorRT 10 with runtime: onnx, which the ONNX image does not hold: "
                "leave it out, or name an image that holds it in spec.template.image",
            )
        config["tensorrt"] = True
    if spec.batching is not None:
        config["batching"] = _dump(spec.batching, exclude={"chunked_prefill", "policy"})
    return config | _front(spec)


def simulator(
    spec: InferenceServiceSpec, *, model_name: str, drain: int = contract.DRAIN_SECONDS
) -> Manifest:
    """Configuration of a simulated engine, times in seconds."""
    behaviour = spec.simulator or SimulatorSpec()
    return {
        "model": {"name": model_name},
        "alpha": units.seconds(behaviour.alpha),
        "beta": units.seconds(behaviour.beta),
        "gamma": units.seconds(behaviour.gamma),
        "delta": units.seconds(behaviour.delta),
        "kvTokens": behaviour.kv_tokens,
        "maxSequences": behaviour.max_sequences,
        "coldStart": units.seconds(behaviour.cold_start),
        "lingerSeconds": contract.LINGER_SECONDS,
        "drainSeconds": drain,
        **_metrics(spec),
    }


def _metrics(spec: InferenceServiceSpec) -> dict[str, Any]:
    """Endpoint pickers read metrics where they send requests: their option for another port is gone from new ones."""
    return {"openMetrics": True} if routing.mode(spec) == "Gateway" else {}


def _front(spec: InferenceServiceSpec) -> dict[str, Any]:
    """Return the checks in front of any engine; with a router, requests queue there."""
    config = _metrics(spec)
    if spec.limits is not None:
        elsewhere = {"timeout", "queue"} if routing.mode(spec) == "Router" else {"timeout"}
        config["limits"] = _dump(spec.limits, exclude=elsewhere)
        if spec.limits.timeout is not None:
            config["limits"]["timeoutSeconds"] = units.seconds(spec.limits.timeout)
    if routing.engine_keys(spec) is not None:
        config["apiKeys"] = contract.API_KEYS_DIRECTORY
    return config


def _kv_bytes(resources: Manifest) -> int:
    memory = resources.get("limits", {}).get("memory") or resources.get("requests", {}).get(
        "memory"
    )
    if memory is None:
        raise PermanentError(
            Reason.INVALID_SPEC,
            "spec.resources.limits.memory: is needed with accelerator cpu, whose KV cache is sized from it: "
            "set it here or in the ServingProfile, for example 8Gi",
        )
    return int(units.quantity(memory) * KV_SHARE_OF_MEMORY)


def _dump(part: Any, *, exclude: set[str] | None = None) -> dict[str, Any]:
    dumped: dict[str, Any] = part.model_dump(by_alias=True, exclude_none=True, exclude=exclude)
    return dumped
