"""OnnxConfig: what one ONNX Runtime pod is told to run, as the operator writes it into the revision's ConfigMap."""

from pathlib import Path
from typing import Annotated, Literal

import pydantic

from slipstream_runtime.host.limits import Limits
from slipstream_runtime.onnx.batching import BatchLimits
from slipstream_runtime.part import Part, Positive

_BATCHES = {
    "cpu": BatchLimits(sequences=32, tokens=2048),
    "cuda": BatchLimits(sequences=256, tokens=32768),
}
"""Device -> limits of a batch. More tokens make a CPU's batches longer and nothing faster."""


class Model(Part):
    """Exported model to serve, and the name that clients ask for."""

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
    """After SIGTERM: how long what still comes is served, its connection closed with the answer."""
    drain_seconds: Annotated[int, pydantic.Field(ge=0)]
    """After that: how long running requests may take to finish."""
    limits: Limits = Limits()
    api_keys: Path | None = None
    """Folder of the keys that clients need; None asks for none."""
    open_metrics: bool = False
    """Show the metrics on the API's port, too, where endpoint pickers look for them."""

    @pydantic.model_validator(mode="after")
    def _tensorrt_is_for_gpus(self) -> "OnnxConfig":
        if self.tensorrt and self.device != "cuda":
            raise ValueError("tensorrt needs device cuda")
        return self

    @pydantic.model_validator(mode="after")
    def _no_output_tokens(self) -> "OnnxConfig":
        if self.limits.max_output_tokens is not None:
            raise ValueError("limits.maxOutputTokens: these models make no tokens")
        return self

    @property
    def batch(self) -> BatchLimits:
        """Limits of one batch."""
        default = _BATCHES[self.device]
        return BatchLimits(
            sequences=self.batching.max_sequences or default.sequences,
            tokens=self.batching.max_batched_tokens or default.tokens,
        )
