"""Runtime as a value: everything that the operator decides by the program that engine pods run.

A new runtime is a file beside this one, a line in `registry`, and a word of `spec.runtime` in the schema.
"""

import dataclasses
from collections.abc import Callable

from slipstream_operator.api import pod
from slipstream_operator.api.inferenceservice import InferenceServiceSpec
from slipstream_operator.api.servingprofile import Accelerator
from slipstream_operator.core import devices
from slipstream_operator.core.devices import Device
from slipstream_operator.core.observed import Manifest
from slipstream_operator.core.parallelism import Split


@dataclasses.dataclass(frozen=True)
class Inputs:
    """Decisions that an engine's configuration is made from."""

    spec: InferenceServiceSpec
    model_name: str
    accelerator: Accelerator
    device: Device
    split: Split
    resources: Manifest
    """Requests and limits of the engine container."""
    drain: int
    """Seconds of the longest drain."""
    body: int | None
    """Seconds for a client to send a body, if the object or the profile sets them."""
    checks_keys: bool
    """Whether the engine checks API keys: the router's token or the clients' keys."""


@dataclasses.dataclass(frozen=True)
class Runtime:
    """Program of the engine pods."""

    name: str
    """Value of spec.runtime."""
    module: str
    """Python module that the container runs."""
    images: tuple[str, ...]
    """Fields of ServingProfile's `images`; the first that is set is used. The first is named where none is."""
    configure: Callable[[Inputs], Manifest]
    """Returns the engine's configuration file as data; raises PermanentError if the engine would refuse it."""
    max_sequences: Callable[[InferenceServiceSpec], int | None]
    """Returns the largest batch of one engine, if the object names one."""
    resources: pod.Resources | None = None
    """Requests and limits of the container, whatever the accelerator; None: the profile's and the device's."""
    needs_model: bool = True
    uses_accelerator: bool = True
    """Whether engines compute on the accelerator. Otherwise they compute on cores of the node."""
    loads_checkpoints: bool = False
    """Whether it loads checkpoints as vLLM does, so that Jobs can prepare them and their memory can be estimated."""
    serves_exports: bool = False
    """Whether it serves models that were exported to ONNX, and no others."""
    generates_tokens: bool = True
    """Whether latencies of tokens and limits of output have a meaning."""
    checks_keys: bool = True
    """Whether engines can check API keys."""

    def device(self, accelerator: Accelerator) -> Device:
        """Return the device that engines compute on."""
        return devices.of(accelerator) if self.uses_accelerator else devices.CPU
