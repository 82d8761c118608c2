"""Engine configuration files: from a service's spec to what slipstream_runtime reads.

The keys are those of `config` in the packages `engine`, `onnx` and `simulator` of `slipstream_runtime`; a test feeds
these there.
"""

from decimal import Decimal
from typing import Any, Final

from slipstream_operator.api import units
from slipstream_operator.api.inferenceservice import InferenceServiceSpec, SimulatorSpec
from slipstream_operator.api.servingprofile import Accelerator
from slipstream_operator.core.observed import Manifest
from slipstream_operator.errors import PermanentError
from slipstream_operator.names import Reason
from slipstream_runtime import contract

CPU: Final = "cpu"
"""The accelerator type whose count is cores and whose KV cache lies in the container's memory."""
KV_SHARE_OF_MEMORY: Final = Decimal("0.125")
"""On CPU, weights, Python and the KV cache share the container's limit: an eighth of it is for the cache."""


def vllm(
    spec: InferenceServiceSpec, *, model_name: str, accelerator: Accelerator, resources: Manifest
) -> Manifest:
    """Configuration of a vLLM engine."""
    assert spec.model is not None
    on_cpu = accelerator.name == CPU
    count = spec.accelerator.count if spec.accelerator else 1
    cache: dict[str, Any] = {"prefix": True, "compile": not on_cpu}
    if spec.cache:
        cache["prefix"] = spec.cache.prefix
        if spec.cache.compile is not None:
            cache["compile"] = spec.cache.compile
    if on_cpu:
        cache["kvBytes"] = _kv_bytes(resources)
    if on_cpu and spec.quantization and spec.quantization.kv_cache == "fp8":
        raise PermanentError(
            Reason.UNSUPPORTED,
            'spec.quantization.kvCache: "fp8" needs AVX-512 or AMX on type cpu, which nodes may lack: '
            "leave it out, or use a GPU",
        )
    config: dict[str, Any] = {
        "model": {**_dump(spec.model, exclude={"token_secret"}), "name": model_name},
        "device": "cpu" if on_cpu else "cuda",
        "cache": cache,
        "drainSeconds": contract.DRAIN_SECONDS,
    }
    if on_cpu:
        config["cores"] = count
    else:
        config["tensorParallel"] = count
    for key in ("quantization", "speculation", "batching"):
        part = getattr(spec, key)
        if part is not None:
            config[key] = _dump(part)
    return config


def onnx(spec: InferenceServiceSpec, *, model_name: str, accelerator: Accelerator) -> Manifest:
    """Configuration of an ONNX Runtime engine."""
    assert spec.model is not None
    on_cpu = accelerator.name == CPU
    count = spec.accelerator.count if spec.accelerator else 1
    config: dict[str, Any] = {
        "model": {
            **_dump(spec.model, exclude={"token_secret", "trust_remote_code"}),
            "name": model_name,
        },
        "device": "cpu" if on_cpu else "cuda",
        "drainSeconds": contract.DRAIN_SECONDS,
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
        config["tensorrt"] = True
    if spec.batching is not None:
        config["batching"] = _dump(spec.batching, exclude={"chunked_prefill", "policy"})
    return config


def simulator(spec: InferenceServiceSpec, *, model_name: str) -> Manifest:
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
        "drainSeconds": contract.DRAIN_SECONDS,
    }


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
