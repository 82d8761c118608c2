"""Runtime simulator: the behaviour of an engine without a model."""

from typing import Annotated

from pydantic import Field

from slipstream_operator.api.base import Duration, FineDuration, Model


class SimulatorSpec(Model):
    """An engine without a model: a step takes alpha + beta*sequences + gamma*KV tokens + delta*prefill tokens."""

    alpha: FineDuration = Field(
        default="7ms", description="Fixed time of one engine step. Default: 7ms."
    )
    beta: FineDuration = Field(
        default="20us", description="Time per running sequence. Default: 20us."
    )
    gamma: FineDuration = Field(
        default="60ns", description="Time per resident KV token. Default: 60ns."
    )
    delta: FineDuration = Field(
        default="32us", description="Time per prefill token. Default: 32us."
    )
    kv_tokens: Annotated[int, Field(ge=16, le=100_000_000)] = Field(
        default=200_000, description="KV cache capacity in tokens. Default: 200000."
    )
    max_sequences: Annotated[int, Field(ge=1, le=65536)] = Field(
        default=256, description="Sequences that run at once. Default: 256."
    )
    cold_start: Duration = Field(default="10s", description="From start to ready. Default: 10s.")
