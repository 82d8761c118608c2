"""Configuration of one simulated engine, which the operator writes into the revision's ConfigMap.

It is validated once, when it is read; the model takes the frozen `Parameters` that are made from it.
"""

from pathlib import Path
from typing import Annotated

import pydantic

from slipstream_runtime import contract
from slipstream_runtime.part import Part
from slipstream_runtime.simulator.model import Parameters

_DEFAULTS = Parameters()

Seconds = Annotated[float, pydantic.Field(ge=0, allow_inf_nan=False)]


class Model(Part):
    """Model name for clients."""

    name: str = pydantic.Field(min_length=1)


class Config(Part):
    """Latency model (see `Parameters`) and lifecycle of the pod; times in seconds."""

    model: Model
    alpha: float = pydantic.Field(default=_DEFAULTS.alpha, gt=0, allow_inf_nan=False)
    beta: Seconds = _DEFAULTS.beta
    gamma: Seconds = _DEFAULTS.gamma
    delta: Seconds = _DEFAULTS.delta
    kv_tokens: int = pydantic.Field(default=_DEFAULTS.kv_tokens, ge=16)
    max_sequences: int = pydantic.Field(default=_DEFAULTS.max_sequences, ge=1)
    max_batched_tokens: int | None = pydantic.Field(default=None, ge=1)
    """Prompt and output tokens of a step; None: the model's default, or the sequences, if they are more."""
    prefix_tokens: int = pydantic.Field(default=0, ge=0)
    """Tokens of prompts that the prefix cache holds; 0 for no prefix cache."""
    cold_start: Seconds = 10.0
    """Seconds from the start of the process to ready; 10 s is a small model that is already on the node."""
    linger_seconds: int = pydantic.Field(default=contract.LINGER_SECONDS, ge=0)
    drain_seconds: int = pydantic.Field(default=contract.DRAIN_SECONDS, ge=0)
    certificate: Path | None = None
    """Folder of the TLS certificate of the API's port; None for plain HTTP."""
    open_metrics: bool = False
    """Whether the API's port shows the metrics, too, for endpoint pickers."""

    def parameters(self) -> Parameters:
        """Return the parameters of the engine model."""
        return Parameters(
            alpha=self.alpha,
            beta=self.beta,
            gamma=self.gamma,
            delta=self.delta,
            kv_tokens=self.kv_tokens,
            max_sequences=self.max_sequences,
            max_batched_tokens=max(
                self.max_batched_tokens or _DEFAULTS.max_batched_tokens, self.max_sequences
            ),
        )


def load(path: Path) -> Config:
    """Read and validate the file; pydantic.ValidationError names the wrong key."""
    return Config.model_validate_json(path.read_bytes())
