"""All runtimes, by the value of spec.runtime."""

from collections.abc import Mapping
from typing import Final

from slipstream_operator.api.inferenceservice import InferenceServiceSpec
from slipstream_operator.core.runtimes import onnx, simulator, vllm
from slipstream_operator.core.runtimes.runtime import Runtime

RUNTIMES: Final[Mapping[str, Runtime]] = {
    runtime.name: runtime for runtime in (vllm.RUNTIME, onnx.RUNTIME, simulator.RUNTIME)
}


def of(spec: InferenceServiceSpec) -> Runtime:
    """Return the runtime of a service; the default is vLLM."""
    return RUNTIMES[spec.runtime or vllm.RUNTIME.name]
