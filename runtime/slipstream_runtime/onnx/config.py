"""Configuration of one ONNX Runtime pod, which the operator writes into the revision's ConfigMap."""

from pathlib import Path
from typing import Annotated, Literal

import pydantic

from slipstream_runtime.host.limits import Limits
from slipstream_runtime.onnx.batching import BatchLimits
from slipstream_runtime.part import Part, Positive

_BATCHES = {
    "cpu": BatchLimits(sequences=32, tokens=512),
    "cuda": BatchLimits(sequences=256, tokens=32768),
}
"""Device -> limits of a batch. On a CPU, more tokens only make a batch take longer, and other clients wait for it.

A core takes 70 ms for 512 tokens of a MiniLM of 6 layers, and 320 ms for 2,048.
"""


class Model(Part):
    """Exported model to serve, and the model name for clients."""

    uri: str
    name: str
    max_length: Positive | None = None


class Batching(Part):
    """Limits of one batch; None leaves the device's default."""

    max_sequences: Positive | None = None
    max_batched_tokens: Positive | None = None


class OnnxConfig(Part):
    """Everything that decides how an ONNX Runtime engine of one revision runs."""

    model: Model
    device: Literal["cuda", "cpu"] = "cpu"
    cores: Positive | None = None
    """CPU cores of one engine; None takes all that the process may use."""
    tensorrt: bool = False
    """Compile the model with TensorRT; only with device `cuda`."""
    batching: Batching = Batching()
    linger_seconds: Annotated[int, pydantic.Field(ge=0)] = 0
    """Seconds after SIGTERM in which new requests are still served; their connections close with the answer."""
    drain_seconds: Annotated[int, pydantic.Field(ge=0)]
    """Seconds after that in which running requests may finish."""
    limits: Limits = Limits()
    api_keys: Path | None = None
    """Folder of the API keys; None if clients need no key."""
    certificate: Path | None = None
    """Folder of the TLS certificate of the API's port; None for plain HTTP."""
    open_metrics: bool = False
    """Whether the API's port shows the metrics, too, for endpoint pickers."""

    @pydantic.model_validator(mode="after")
    def _tensorrt_is_for_gpus(self) -> "OnnxConfig":
        if self.tensorrt and self.device != "cuda":
            raise ValueError("tensorrt needs device cuda")
        return self

    @pydantic.model_validator(mode="after")
    def _no_output_tokens(self) -> "OnnxConfig":
        if self.limits.max_output_tokens is not None:
            raise ValueError("limits.maxOutputTokens: these models generate no tokens")
        return self

    @property
    def batch(self) -> BatchLimits:
        """Limits of one batch."""
        default = _BATCHES[self.device]
        return BatchLimits(
            sequences=self.batching.max_sequences or default.sequences,
            tokens=self.batching.max_batched_tokens or default.tokens,
        )
