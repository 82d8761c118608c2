"""Runtime simulator. The keys of the configuration are those of slipstream_runtime.simulator.config."""

from typing import Final

from slipstream_operator.api import pod, units
from slipstream_operator.api.inferenceservice import InferenceServiceSpec
from slipstream_operator.api.runtimes.simulator import SimulatorSpec
from slipstream_operator.core.observed import Manifest
from slipstream_operator.core.runtimes import front
from slipstream_operator.core.runtimes.runtime import Inputs, Runtime
from slipstream_runtime import contract


def _configure(inputs: Inputs) -> Manifest:
    """Return the configuration of a simulated engine, times in seconds."""
    behaviour = inputs.spec.simulator or SimulatorSpec()
    return {
        "model": {"name": inputs.model_name},
        "alpha": units.seconds(behaviour.alpha),
        "beta": units.seconds(behaviour.beta),
        "gamma": units.seconds(behaviour.gamma),
        "delta": units.seconds(behaviour.delta),
        "kvTokens": behaviour.kv_tokens,
        "maxSequences": behaviour.max_sequences,
        "coldStart": units.seconds(behaviour.cold_start),
        "lingerSeconds": contract.LINGER_SECONDS,
        "drainSeconds": inputs.drain,
        **front.metrics(inputs),
    }


def _max_sequences(spec: InferenceServiceSpec) -> int | None:
    return spec.simulator.max_sequences if spec.simulator else None


RUNTIME: Final = Runtime(
    name="simulator",
    module=contract.SIMULATOR_MODULE,
    images=("simulator", "vllm_cpu"),
    configure=_configure,
    max_sequences=_max_sequences,
    resources=pod.Resources(requests={"cpu": "20m", "memory": "64Mi"}, limits={"memory": "256Mi"}),
    needs_model=False,
    uses_accelerator=False,
    checks_keys=False,
)
